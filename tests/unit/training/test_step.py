"""The compiled train step: it learns, it freezes what it is told to, and a mesh does not change it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from jaxdet.training import OptimizerConfig, init_state, make_optimizer, make_schedule, make_train_step, to_model

HERE = Path(__file__).resolve().parent


def _run(model, batch, steps, frozen=()):
    model = nnx.merge(*nnx.split(model), copy=True)
    optimizer = make_optimizer(OptimizerConfig(learning_rate=0.02, warmup_steps=0, schedule="constant"), steps)
    graphdef, state = init_state(model, optimizer, frozen=frozen)
    step = make_train_step(graphdef, optimizer, frozen=frozen)
    values = []
    for _ in range(steps):
        state, losses = step(state, *batch, jax.random.key(0))
        values.append({name: float(value) for name, value in losses.items()})
    return to_model(graphdef, state), values


def test_it_learns_and_leaves_the_frozen_alone(tiny, batch):
    before = nnx.state(tiny.backbone.stem, nnx.Param)["conv"]["kernel"][...].copy()
    statistics = np.asarray(tiny.backbone.stem.norm.mean[...]).copy()
    trained, values = _run(tiny, batch, 12, frozen=("backbone.stem", "fpn.inner_blocks.0"))
    assert values[-1]["loss"] < 0.7 * values[0]["loss"]
    assert values[0]["loss"] == pytest.approx(sum(v for k, v in values[0].items() if k.startswith("loss_")), rel=1e-5)
    np.testing.assert_array_equal(trained.backbone.stem.conv.kernel[...], before)
    assert not np.array_equal(trained.backbone.stem.norm.mean[...], statistics)
    inner = [model.fpn.inner_blocks[1].conv.kernel[...] for model in (tiny, trained)]
    assert not np.array_equal(*inner)


def test_freezing_nothing_is_an_error(tiny):
    with pytest.raises(ValueError, match=r"nothing to freeze under 'backbone\.layer9'"):
        init_state(tiny, make_optimizer(OptimizerConfig(), 1), frozen=("backbone.layer9",))


def test_schedule_warms_up_and_steps_down():
    config = OptimizerConfig(learning_rate=1.0, warmup_steps=10, warmup_factor=0.1, milestones=(20, 30))
    schedule = make_schedule(config, 40)
    values = [float(schedule(step)) for step in (0, 5, 10, 19, 20, 30)]
    np.testing.assert_allclose(values, [0.1, 0.55, 1.0, 1.0, 0.1, 0.01], rtol=1e-5)


def test_eight_devices_give_one_devices_losses():
    """In a process of its own: the number of virtual devices is fixed when JAX starts."""
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    paths = [str(HERE.parents[1]), *sys.path]
    environment |= {"PYTHONPATH": os.pathsep.join(paths)}
    subprocess.run([sys.executable, str(HERE / "eight_devices.py")], env=environment, check=True)

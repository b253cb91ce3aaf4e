"""The compiled train step: it learns, it freezes what it is told to, and a mesh does not change it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdet.nn import Numerics
from jaxdet.parallel import data_mesh, replicated
from jaxdet.training import OptimizerConfig, init_state, make_optimizer, make_schedule, make_train_step, to_model
from jaxdet.types import Images
from small_detector import FAMILIES, FAST_COMPILE, small_detector

HERE = Path(__file__).resolve().parent


def _copy(model):
    """With arrays of its own, since steps donate theirs."""
    graphdef, state = nnx.split(model)
    return nnx.merge(graphdef, jax.tree.map(jnp.copy, state))


def _begin(model, optimizer, **options):
    """`init_state` where the steps leave it: a step compiles once."""
    graphdef, state = init_state(_copy(model), optimizer, **options)
    return graphdef, jax.device_put(state, replicated(data_mesh(jax.devices()[:1])))


def _run(model, batch, steps, frozen=()):
    optimizer = make_optimizer(OptimizerConfig(learning_rate=0.02, warmup_steps=0, schedule="constant"), steps)
    graphdef, state = _begin(model, optimizer, frozen=frozen)
    step = make_train_step(graphdef, optimizer, frozen=frozen)
    values = []
    for _ in range(steps):
        state, losses = step(state, *batch, jax.random.key(0))
        values.append({name: float(value) for name, value in losses.items()})
    return to_model(graphdef, state), values


def test_it_learns_and_leaves_the_frozen_alone(small, batch):
    trained, values = _run(small, batch, 30, frozen=("backbone.layers.0", "box_head.fc6"))
    assert values[-1]["loss"] < 0.7 * values[0]["loss"]
    assert values[0]["loss"] == pytest.approx(sum(v for k, v in values[0].items() if k.startswith("loss_")), rel=1e-5)
    (first, second, _), (first_after, second_after, _) = small.backbone.layers, trained.backbone.layers
    np.testing.assert_array_equal(first_after.conv.kernel[...], first.conv.kernel[...])
    assert not np.array_equal(first_after.norm.mean[...], first.norm.mean[...])
    assert not np.array_equal(second_after.conv.kernel[...], second.conv.kernel[...])
    np.testing.assert_array_equal(trained.box_head.fc6.kernel[...], small.box_head.fc6.kernel[...])
    assert not np.array_equal(trained.box_head.fc7.kernel[...], small.box_head.fc7.kernel[...])


@pytest.mark.parametrize(
    "options, frozen, says",
    [
        (
            {},
            ("backbone.layers.0", "backbone.layers.9"),
            r"frozen: nothing to freeze lies under 'backbone\.layers\.9'; did you ",
        ),
        ({}, ("backbone.layers.0.norm.mean",), r"frozen: nothing to freeze lies under 'backbone\..*\.norm\.mean'"),
        (
            {"lr_scales": (("fpn", 0.5), ("backbon", 0.1))},
            (),
            r"lr_scales: .*under 'backbon'; did you mean 'backbone'\?",
        ),
        ({"lr_scales": (("fpn.inner", 0.5),), "accumulate": 2}, (), r"nothing that trains lies under 'fpn\.inner'"),
        ({"lr_scales": (("fpn", 0.5),)}, ("fpn",), r"nothing that trains lies under 'fpn'"),
    ],
)
def test_a_path_to_no_parameter_is_refused(small, options, frozen, says):
    with pytest.raises(ValueError, match=says):
        init_state(small, make_optimizer(OptimizerConfig(**options), 1), frozen=frozen)


def test_schedule_warms_up_and_steps_down():
    config = OptimizerConfig(learning_rate=1.0, warmup_steps=10, warmup_factor=0.1, milestones=(20, 30))
    schedule = make_schedule(config, 40)
    values = [float(schedule(step)) for step in (0, 5, 10, 19, 20, 30)]
    np.testing.assert_allclose(values, [0.1, 0.55, 1.0, 1.0, 0.1, 0.01], rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_eight_devices_give_one_devices_losses(family):
    """In a process of its own: the number of virtual devices is fixed when JAX starts."""
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count=8 {FAST_COMPILE}"}
    environment |= {"JAX_PLATFORMS": "cpu"}
    paths = [str(HERE.parents[1]), *sys.path]
    environment |= {"PYTHONPATH": os.pathsep.join(paths)}
    subprocess.run([sys.executable, str(HERE / "eight_devices.py"), family], env=environment, check=True)


def test_bfloat16_computes_beside_float32_masters(batch):
    """Read off the lowered programs: compiling bfloat16 for a CPU takes minutes, and a TPU is not here."""
    optimizer = make_optimizer(OptimizerConfig(), 2)
    graphdef, state = init_state(small_detector(numerics=Numerics("bfloat16")), optimizer)
    traced = make_train_step(graphdef, optimizer).trace(state, *batch, jax.random.key(0))
    for platform, at_least in (("cpu", 10), ("tpu", 20)):  # on a CPU those of 1x1 kernels are products of matrices
        lowered = traced.lower(lowering_platforms=(platform,))
        convolutions = re.findall(r"stablehlo\.convolution.*->\s*tensor<[^>]*x(\w+)>", lowered.as_text())
        assert len(convolutions) > at_least and set(convolutions) == {"bf16"}
    after, values = lowered.out_info
    assert {leaf.dtype.name for leaf in jax.tree.leaves((after.params, after.opt_state[-2]))} == {"float32"}
    assert values["loss"].dtype == np.float32


@pytest.fixture(scope="module")
def averaging(small):
    """An optimizer that moves at every second step, and the step that keeps averages."""
    optimizer = make_optimizer(OptimizerConfig(learning_rate=0.01, warmup_steps=0, accumulate=2), 4)
    return optimizer, make_train_step(_begin(small, optimizer)[0], optimizer, ema_decay=0.5, accumulate=2)


def test_a_loss_that_is_not_finite_leaves_the_state_as_it_was(small, batch, averaging):
    (images, targets), (optimizer, step) = batch, averaging
    _, state = _begin(small, optimizer, ema=True)
    state, _ = step(state, images, targets, jax.random.key(0))  # half of an update is waiting
    before = jax.tree.map(np.array, state)
    bad = Images(images.pixels.at[1, 5, 5].set(np.inf), images.sizes)
    state, values = step(state, bad, targets, jax.random.key(0))
    assert not np.isfinite(values["loss"]) and not bool(state.healthy)
    state, values = step(state, images, targets, jax.random.key(0))  # a good batch does not heal it
    assert np.isfinite(values["loss"]) and not bool(state.healthy)
    jax.tree.map(np.testing.assert_array_equal, replace(state, healthy=before.healthy), before)


def test_averages_move_when_the_parameters_do(small, batch, averaging):
    optimizer, step = averaging
    _, state = _begin(small, optimizer, ema=True)
    start = np.asarray(state.params["rpn_head"]["cls_logits"]["kernel"][...])
    key = jax.random.key(0)
    averages, params = [], []
    for _ in range(4):
        state, _ = step(state, *batch, key)
        params.append(np.asarray(state.params["rpn_head"]["cls_logits"]["kernel"][...]))
        averages.append(np.asarray(state.ema[0]["rpn_head"]["cls_logits"]["kernel"][...]))
    np.testing.assert_array_equal(params[0], start)
    np.testing.assert_array_equal(averages[0], start)
    # After u updates the decay is min(0.5, (1 + u) / (10 + u)): 2/11, then 3/12.
    first = start * (2 / 11) + params[1] * (9 / 11)
    np.testing.assert_allclose(averages[1], first, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(averages[2], averages[1])
    np.testing.assert_allclose(averages[3], first * 0.25 + params[3] * 0.75, rtol=1e-5, atol=1e-7)

"""Run by test_step.py: the first steps of a run on one device and on a mesh of eight."""

from __future__ import annotations

import jax
import numpy as np
from conftest import make_batch, tiny_config
from flax import nnx

from jaxdet.detectors import build
from jaxdet.parallel import data_mesh
from jaxdet.training import OptimizerConfig, init_state, make_optimizer, make_train_step

assert jax.device_count() == 8
batch = make_batch(batch=8)
optimizer = make_optimizer(OptimizerConfig(learning_rate=0.01, warmup_steps=0, schedule="constant"), 2)
results, programs = [], []
for devices in (jax.devices()[:1], jax.devices()):
    graphdef, state = init_state(build(tiny_config(), rngs=nnx.Rngs(0)), optimizer)
    step = make_train_step(graphdef, optimizer, mesh=data_mesh(devices))
    values = []
    for _ in range(2):
        state, losses = step(state, *batch, jax.random.key(0))
        values.append({name: float(value) for name, value in losses.items()})
    results.append(values)
    programs.append(step.lower(state, *batch, jax.random.key(0)).compile().as_text())
for one, eight in zip(*results, strict=True):
    for name in one:
        np.testing.assert_allclose(eight[name], one[name], rtol=2e-4, err_msg=name)
assert "all-reduce" in programs[1] and "all-reduce" not in programs[0]
assert "all-gather" not in programs[1], "features crossed devices"

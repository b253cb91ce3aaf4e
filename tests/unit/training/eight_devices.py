"""Run by test_step.py, in float64: a step on one device and on a mesh of eight gives the same numbers.

The argument names the family of `small_detector.FAMILIES`.
"""

from __future__ import annotations

import sys

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np

from jaxdet.nn import Numerics
from jaxdet.parallel import data_mesh
from jaxdet.training import OptimizerConfig, init_state, make_optimizer, make_train_step
from small_detector import FAMILIES, make_batch, small_detector

assert jax.device_count() == 8
KEY = jax.random.key(0)
batch = jax.tree.map(lambda x: x.astype("float64") if x.dtype == "float32" else x, make_batch(batch=8))
optimizer = make_optimizer(OptimizerConfig(learning_rate=0.01, warmup_steps=0, schedule="constant"), 2)
results, programs, updates = [], [], []
for devices in (jax.devices()[:1], jax.devices()):
    config = FAMILIES[sys.argv[1]](num_classes=4)
    graphdef, state = init_state(small_detector(config, Numerics("float64", "float64")), optimizer)
    before = jax.device_get(state.params)
    compiled = make_train_step(graphdef, optimizer, mesh=data_mesh(devices)).lower(state, *batch, KEY).compile()
    programs.append(compiled.as_text())
    state, losses = compiled(*jax.device_put((state, *batch, KEY), compiled.input_shardings[0]))
    results.append({name: float(value) for name, value in losses.items()})
    updates.append(jax.tree.map(lambda a, b: np.asarray(a) - b, state.params, before))
for name, value in results[0].items():
    np.testing.assert_allclose(results[1][name], value, rtol=1e-12, err_msg=name)
one, eight = (np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(update)]) for update in updates)
difference = np.linalg.norm(one - eight) / np.linalg.norm(one)
assert difference < 1e-12, difference
assert "all-reduce" in programs[1] and "all-reduce" not in programs[0]
assert "all-gather" not in programs[1], "features crossed devices"
print("eight devices", difference)

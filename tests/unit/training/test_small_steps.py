"""The train step's rules on a model of two numbers, which compiles at once."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxdet.training import image_keys, init_state, make_train_step
from jaxdet.training.state import moving_average, under
from jaxdet.types import Images

IMAGES = Images(jnp.zeros((2, 32, 32, 3)), jnp.full((2, 2), 32))


class Two(nnx.Module):
    """Two parameters, and a count of the times that a loss was computed."""

    def __init__(self, values):
        self.values = nnx.Param(jnp.asarray(values, jnp.float32))
        self.seen = nnx.BatchStat(jnp.zeros(()))


def roots(model, images, targets, keys, *, train=True, mesh=None):
    """Of 0 the square root is finite, and its slope is not."""
    model.seen[...] = model.seen[...] + 1
    return {"loss_root": jnp.sqrt(model.values[...]).sum()}


def _begin(values):
    graphdef, state = init_state(Two(values), optax.sgd(0.5, momentum=0.9), ema=True)
    return state, make_train_step(graphdef, optax.sgd(0.5, momentum=0.9), objective=roots, ema_decay=0.9)


def test_a_gradient_that_is_not_finite_leaves_the_state_as_it_was():
    state, step = _begin([4.0, 0.0])
    before = jax.tree.map(np.array, state)
    state, values = step(state, IMAGES, None, jax.random.key(0))
    assert values["loss"] == 2.0 and np.isinf(values["gradient_norm"]) and not bool(state.healthy)
    jax.tree.map(np.testing.assert_array_equal, replace(state, healthy=before.healthy), before)


def test_averages_are_of_parameters_and_statistics():
    """After the first update the decay is 2 / 11."""
    state, step = _begin([4.0, 1.0])
    state, values = step(state, IMAGES, None, jax.random.key(0))
    assert values["loss"] == 3.0 and bool(state.healthy) and int(state.step) == 1
    np.testing.assert_allclose(values["gradient_norm"], np.hypot(1 / 4, 1 / 2), rtol=1e-6)
    moved = np.array([4 - 0.5 / 4, 1 - 0.5 / 2])
    np.testing.assert_allclose(state.params["values"][...], moved, rtol=1e-6)
    params, rest = state.ema
    np.testing.assert_allclose(params["values"][...], np.array([4, 1]) * 2 / 11 + moved * 9 / 11, rtol=1e-6)
    np.testing.assert_allclose(rest["seen"][...], 9 / 11, rtol=1e-6)


def test_the_average_of_a_counter_is_the_counter():
    found = moving_average({"count": jnp.int32(3)}, {"count": jnp.int32(5)}, 0.9, jnp.int32(100))
    assert found["count"] == 5 and found["count"].dtype == jnp.int32


def test_every_step_and_row_has_a_key_of_its_own():
    key = jax.random.key(0)
    keys = [jax.random.key_data(image_keys(key, jnp.int32(step), 3)) for step in (0, 1)]
    assert len({tuple(row) for rows in keys for row in rows.tolist()}) == 6
    # A row's key depends neither on the size of its batch nor on what else is drawn.
    np.testing.assert_array_equal(jax.random.key_data(image_keys(key, jnp.int32(1), 2)), keys[1][:2])


def test_a_path_ends_at_a_dot():
    assert under("backbone.layer1", ("backbone.layer1",)) and under(
        "backbone.layer1.0.conv", ("fpn", "backbone.layer1")
    )
    assert not under("backbone.layer10.0", ("backbone.layer1",)) and not under("backbone", ("backbone.layer1",))

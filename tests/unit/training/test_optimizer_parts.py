"""The optimizers' rules one by one, on parameters written down by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdet.training import OptimizerConfig, make_optimizer, make_schedule
from jaxdet.training.optimizers import clip_by_norm

PLAIN = {"learning_rate": 1.0, "momentum": 0.0, "warmup_steps": 0, "schedule": "constant"}
PARAMS = {
    "conv": {"kernel": jnp.array([2.0]), "bias": jnp.array([4.0])},
    "norm": {"scale": jnp.array([6.0]), "bias": jnp.array([8.0])},
}


def _after(gradients, steps=1, params=PARAMS, **options):
    """The parameters after some steps of the same gradients."""
    optimizer = make_optimizer(OptimizerConfig(**PLAIN | options), 10)
    state = optimizer.init(params)
    for _ in range(steps):
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    return [float(leaf[0]) for leaf in jax.tree.leaves(params)]  # conv bias, conv kernel, norm bias, norm scale


NONE = jax.tree.map(jnp.zeros_like, PARAMS)
ONES = jax.tree.map(jnp.ones_like, PARAMS)


def test_norms_have_a_weight_decay_of_their_own():
    np.testing.assert_allclose(_after(NONE, weight_decay=0.5), [2, 1, 4, 3])
    np.testing.assert_allclose(_after(NONE, weight_decay=0.5, norm_weight_decay=0.0), [2, 1, 8, 6])
    np.testing.assert_allclose(_after(NONE, weight_decay=0.0, norm_weight_decay=0.5), [4, 2, 4, 3])


@pytest.mark.parametrize("decoupled, factor", [(False, 0.5 * 0.5 - 0.25), (True, 0.5 * 0.5)])
def test_a_decoupled_decay_has_no_momentum(decoupled, factor):
    """Two steps without gradient: each halves; what joined the momentum (half of it) is taken off again."""
    found = _after(NONE, steps=2, weight_decay=0.5, momentum=0.5, decoupled=decoupled)
    np.testing.assert_allclose(found, [4 * factor, 2 * factor, 8 * factor, 6 * factor], atol=1e-6)


def test_the_longest_path_gives_the_rate():
    scales = (("conv", 0.5), ("conv.bias", 0.0))
    np.testing.assert_allclose(_after(ONES, weight_decay=0.0, lr_scales=scales), [4, 1.5, 7, 5])
    np.testing.assert_allclose(_after(ONES, weight_decay=0.0, lr_scales=scales[::-1]), [4, 1.5, 7, 5])
    with pytest.raises(ValueError, match="nothing that trains lies under 'nor'"):  # a part of a name is no path
        _after(ONES, weight_decay=0.0, lr_scales=(("nor", 7.0),))


def test_gradients_are_shortened_and_never_stretched():
    def clipped(*values):
        updates, _ = clip_by_norm(5.0).update({"a": jnp.array(values[:1]), "b": jnp.array(values[1:])}, None)
        return np.concatenate([updates["a"], updates["b"]])

    np.testing.assert_allclose(clipped(6.0, 8.0), [3, 4], rtol=1e-6)  # of all leaves together
    np.testing.assert_array_equal(clipped(0.3, 0.4), np.float32([0.3, 0.4]))


def test_a_run_shorter_than_its_warmup_warms_up_to_its_end():
    schedule = make_schedule(OptimizerConfig(learning_rate=1.0, warmup_steps=1000, warmup_factor=0.1), 10)
    np.testing.assert_allclose([float(schedule(step)) for step in (0, 5, 10)], [0.1, 0.55, 1.0], rtol=1e-6)


def test_a_cosine_spans_the_whole_run():
    config = OptimizerConfig(learning_rate=2.0, schedule="cosine", warmup_steps=10, warmup_factor=0.5)
    schedule = make_schedule(config, 40)
    np.testing.assert_allclose(
        [float(schedule(step)) for step in (0, 10, 20, 40)], [1, 1 + np.cos(np.pi / 4), 1, 0], atol=1e-6
    )

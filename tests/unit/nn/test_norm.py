"""Batch norms against hand-computed values, and what padding may not do to them."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.nn import BatchNorm, FrozenBatchNorm, NormConfig, Numerics


def test_running_statistics_normalise_as_one_multiplication_and_addition():
    norm = FrozenBatchNorm(2, config=NormConfig("frozen", eps=0.0), numerics=Numerics())
    norm.mean[...] = jnp.array([1.0, 2.0])
    norm.var[...] = jnp.array([4.0, 9.0])
    norm.scale[...] = jnp.array([2.0, 3.0])
    norm.bias[...] = jnp.array([0.5, -1.0])
    x = jnp.array([3.0, 5.0]).reshape(1, 1, 1, 2)
    np.testing.assert_allclose(norm(x).ravel(), [2 * (3 - 1) / 2 + 0.5, 3 * (5 - 2) / 3 - 1])


@pytest.mark.parametrize("kind", [FrozenBatchNorm, BatchNorm])
def test_eps_is_added_to_the_variance(kind):
    norm = kind(1, config=NormConfig(eps=0.75), numerics=Numerics())
    norm.var[...] = jnp.array([0.25])
    np.testing.assert_allclose(norm(jnp.full((1, 1, 1, 1), 3.0)).ravel(), [3])
    norm.var[...] = jnp.array([3.25])
    np.testing.assert_allclose(norm(jnp.full((1, 1, 1, 1), 3.0)).ravel(), [1.5])


def test_training_uses_biased_and_stores_unbiased_variance():
    norm = BatchNorm(1, config=NormConfig(eps=0.0, momentum=0.9), numerics=Numerics())
    x = jnp.array([1.0, 2.0, 3.0, 6.0]).reshape(1, 2, 2, 1)
    y = norm(x, train=True)
    np.testing.assert_allclose(y.ravel(), (np.array([1, 2, 3, 6]) - 3) / np.sqrt(3.5), rtol=1e-6)
    np.testing.assert_allclose(norm.mean[...], [0.9 * 0 + 0.1 * 3], rtol=1e-6)
    np.testing.assert_allclose(norm.var[...], [0.9 * 1 + 0.1 * 14 / 3], rtol=1e-6)
    assert int(norm.count[...]) == 1


def test_statistics_do_not_see_padding():
    rng = np.random.default_rng(0)
    alone = jnp.asarray(rng.normal(size=(1, 3, 4, 5)), jnp.float32)
    padded = jnp.full((1, 6, 6, 5), jnp.nan).at[:, :3, :4].set(alone)
    first, second = (BatchNorm(5, config=NormConfig(), numerics=Numerics()) for _ in range(2))
    y = first(alone, train=True)
    z = second(padded, jnp.array([[3, 4]]), train=True)
    np.testing.assert_allclose(z[:, :3, :4], y, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(first.var[...], second.var[...], rtol=1e-6)
    np.testing.assert_allclose(first.mean[...], second.mean[...], rtol=1e-6, atol=1e-8)


def test_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="'instance'"):
        NormConfig("instance")

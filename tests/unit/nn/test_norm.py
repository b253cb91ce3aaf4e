"""Batch and group norms against hand-computed values, and what padding may not do to them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdet.nn import BatchNorm, ConvNormAct, FrozenBatchNorm, GroupNorm, NormConfig, Numerics


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


GROUPED = NormConfig("group", groups=2, eps=0.0)


def test_group_norm_by_hand():
    norm = GroupNorm(4, config=GROUPED, numerics=Numerics())
    norm.scale[...], norm.bias[...] = jnp.array([1.0, 2, 3, 4]), jnp.array([0.0, 0, 0, 5])
    x = jnp.array([[1.0, 3, 10, 10], [5, 7, 20, 20]]).reshape(1, 1, 2, 4)  # means 4 and 15, variances 5 and 25
    expected = [[-3 / 5**0.5, -2 / 5**0.5, -3, 1], [1 / 5**0.5, 6 / 5**0.5, 3, 9]]
    np.testing.assert_allclose(norm(x)[0, 0], expected, rtol=1e-6)


def test_group_norm_does_not_see_padding_or_batch_mates():
    rng = np.random.default_rng(0)
    norm = GroupNorm(4, config=GROUPED, numerics=Numerics())
    sizes = [(3, 4), (6, 2)]
    alone = [jnp.asarray(rng.normal(2, 1, size=(1, *size, 4)), jnp.float32) for size in sizes]
    padded = jnp.full((2, 6, 6, 4), jnp.nan)
    for row, ((height, width), x) in enumerate(zip(sizes, alone, strict=True)):
        padded = padded.at[row, :height, :width].set(x[0])

    @jax.jit
    def with_gradient(x, extents):
        y, pull = jax.vjp(lambda x: norm(x, extents), x)
        own = jnp.where(jnp.isnan(x), 0, jnp.sin(jnp.arange(x.shape[-1]))[None, None, None])
        return y, pull(own)[0]

    y, gradient = with_gradient(padded, jnp.array(sizes))
    for row, ((height, width), x) in enumerate(zip(sizes, alone, strict=True)):
        expected, expected_gradient = with_gradient(x, None)
        np.testing.assert_allclose(y[row, :height, :width], expected[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(gradient[row, :height, :width], expected_gradient[0], rtol=1e-4, atol=1e-5)
        assert not np.asarray(gradient)[row, height:].any() and not np.asarray(gradient)[row, :, width:].any()


def test_a_convolution_takes_a_group_norm():
    layer = ConvNormAct(3, 64, norm=NormConfig("group"), numerics=Numerics(), rngs=nnx.Rngs(0))
    assert isinstance(layer.norm, GroupNorm) and layer.norm.groups == 32 and layer.conv.bias is None
    assert not nnx.state(layer, nnx.BatchStat)
    with pytest.raises(ValueError, match="32 groups do not divide 48 channels"):
        ConvNormAct(3, 48, norm=NormConfig("group"), numerics=Numerics(), rngs=nnx.Rngs(0))


def test_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="'instance'"):
        NormConfig("instance")

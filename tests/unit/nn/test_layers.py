"""Masking, depthwise convolution and activations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from jaxdet.nn import (
    Activation,
    Conv,
    ConvNormAct,
    GlobalAvgPool,
    MaxPool,
    NormConfig,
    Numerics,
    SqueezeExcitation,
    image_extents,
    mask,
    strided,
)
from jaxdet.ops.conv.depthwise import depthwise_conv


def test_extents_are_sizes_rounded_up_and_halved_upwards():
    sizes = jnp.array([[1, 32], [33, 800], [0, 0]])
    extents = image_extents(sizes)
    np.testing.assert_array_equal(extents, [[32, 32], [64, 800], [32, 32]])
    np.testing.assert_array_equal(strided(extents, 64), [[1, 1], [1, 13], [1, 1]])
    assert strided(None, 2) is None


def test_mask_zeroes_beyond_the_extent_whatever_lies_there():
    x = jnp.full((1, 2, 3, 1), jnp.nan).at[0, 0, :2].set(1.0)
    np.testing.assert_array_equal(mask(x, jnp.array([[1, 2]]))[0, :, :, 0], [[1, 1, 0], [0, 0, 0]])


@pytest.mark.parametrize("kernel, stride", [(3, 1), (3, 2), (7, 2)])
def test_a_masked_convolution_equals_the_unpadded_one(kernel, stride):
    rng = np.random.default_rng(0)
    layer = ConvNormAct(3, 4, kernel, stride=stride, norm=NormConfig(), numerics=Numerics(), rngs=nnx.Rngs(0))
    alone = jnp.asarray(rng.normal(size=(1, 8, 12, 3)), jnp.float32)
    padded = jnp.full((1, 16, 16, 3), jnp.nan).at[:, :8, :12].set(alone)
    small = layer(alone)
    large = layer(padded, jnp.array([[8, 12]]))
    np.testing.assert_allclose(large[:, : small.shape[1], : small.shape[2]], small, atol=1e-6)


@pytest.mark.parametrize(
    "kernel, stride, padding, size", [(3, 2, 1, (4, 6)), (2, 1, 0, (7, 11)), (2, 1, 1, (9, 13)), (2, 2, 0, (4, 6))]
)
def test_statistics_see_the_outputs_within_the_extent(kernel, stride, padding, size):
    """Of an even kernel these are a pixel fewer, or with padding one more, than of an odd one."""
    options = {"stride": stride, "padding": padding, "norm": NormConfig(), "numerics": Numerics()}
    first, second = (ConvNormAct(2, 3, kernel, **options, rngs=nnx.Rngs(0)) for _ in range(2))
    alone = jnp.asarray(np.random.default_rng(0).normal(size=(1, 8, 12, 2)), jnp.float32)
    small = first(alone, train=True)
    assert small.shape[1:3] == size and second.out_extents(jnp.array([[8, 12]])).tolist() == [list(size)]
    large = second(jnp.full((1, 16, 16, 2), jnp.nan).at[:, :8, :12].set(alone), jnp.array([[8, 12]]), train=True)
    np.testing.assert_allclose(large[:, : size[0], : size[1]], small, atol=1e-5)
    np.testing.assert_allclose(second.norm.mean[...], first.norm.mean[...], atol=1e-6)


def test_max_pool_does_not_see_beyond_the_extent():
    x = jnp.full((1, 6, 6, 1), jnp.inf).at[0, :4, :3].set(jnp.arange(12.0).reshape(4, 3, 1))
    pooled = MaxPool(3, stride=2, padding=1)(x, jnp.array([[4, 3]]))[0, :2, :2, 0]
    np.testing.assert_array_equal(pooled, [[4, 5], [10, 11]])


def test_a_mean_of_bfloat16_is_taken_in_float32():
    """Of 4096 ones a sum in bfloat16 would stop at 256."""
    x = jnp.ones((1, 64, 64, 1), jnp.bfloat16)
    pooled = GlobalAvgPool()(x)
    assert pooled.dtype == jnp.bfloat16 and pooled[0, 0, 0, 0] == 1
    text = jax.jit(GlobalAvgPool()).lower(x).as_text()
    assert "tensor<1x64x64x1xf32>" in text  # some platforms widen sums by themselves


def test_max_pool_is_pytorchs_at_odd_sizes():
    x = jnp.arange(25.0).reshape(1, 5, 5, 1)
    pooled = MaxPool(3, stride=2, padding=1)(x)[0, :, :, 0]
    np.testing.assert_array_equal(pooled, [[6, 8, 9], [16, 18, 19], [21, 23, 24]])


@pytest.mark.parametrize(
    "kind, slope, expected",
    [
        ("relu", 0.0, [0, 0, 7]),
        ("relu6", 0.0, [0, 0, 6]),
        ("leaky_relu", 0.1, [-0.2, 0, 7]),
        ("hard_sigmoid", 0.0, [1 / 6, 0.5, 1]),
        ("hard_swish", 0.0, [-1 / 3, 0, 7]),
        ("sigmoid", 0.0, [0.11920292, 0.5, 0.99908894]),
    ],
)
def test_activations(kind, slope, expected):
    act = Activation(kind, negative_slope=slope)
    np.testing.assert_allclose(act(jnp.array([-2.0, 0.0, 7.0])), expected, rtol=1e-6)


def test_squeeze_excitation_does_not_see_padding():
    layer = SqueezeExcitation(3, 2, numerics=Numerics(), rngs=nnx.Rngs(0))
    alone = jnp.asarray(np.random.default_rng(0).normal(1, 1, size=(1, 4, 5, 3)), jnp.float32)
    padded = jnp.full((1, 6, 8, 3), jnp.nan).at[:, :4, :5].set(alone)
    expected = alone * jax.nn.sigmoid(layer.fc2(jax.nn.relu(layer.fc1(alone.mean((1, 2), keepdims=True)))))
    np.testing.assert_allclose(layer(alone), expected, rtol=1e-5)
    np.testing.assert_allclose(layer(padded, jnp.array([[4, 5]]))[:, :4, :5], expected, rtol=1e-5)


@pytest.mark.parametrize("kernel, stride, padding, size", [(3, 1, 1, (9, 12)), (3, 2, 1, (9, 12)), (2, 1, 1, (8, 8))])
def test_depthwise_is_the_grouped_convolution_with_its_gradients(kernel, stride, padding, size):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, *size, 5)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(kernel, kernel, 1, 5)), jnp.float32)
    strides, pads = (stride, stride), ((padding, padding),) * 2

    def grouped(x, weights):
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            x, weights, strides, pads, dimension_numbers=numbers, feature_group_count=5, precision="highest"
        )

    def ours(x, weights):
        return depthwise_conv(x, weights, strides, pads, precision="highest")

    np.testing.assert_allclose(ours(x, weights), grouped(x, weights), atol=1e-5)
    expected, actual = (
        jax.grad(lambda *args, f=f: jnp.sin(f(*args)).sum(), argnums=(0, 1))(x, weights) for f in (grouped, ours)
    )
    for a, b in zip(expected, actual, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4)


def test_depthwise_is_a_grouped_convolution_on_accelerators():
    layer = Conv(8, 8, 3, groups=8, numerics=Numerics(), rngs=nnx.Rngs(0))
    graphdef, state = nnx.split(layer)
    traced = jax.jit(lambda state, x: nnx.merge(graphdef, state)(x)).trace(state, jnp.zeros((1, 8, 8, 8)))
    assert "feature_group_count = 8" in traced.lower(lowering_platforms=("tpu",)).as_text()
    assert "convolution" not in traced.lower(lowering_platforms=("cpu",)).as_text()

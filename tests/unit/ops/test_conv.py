"""Convolution, whose CPU form has gradients of its own, against XLA's."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxdet.ops.conv import plain
from jaxdet.ops.conv.plain import conv2d

# kernel, stride, padding of height and width, (height, width)
CASES = (
    ((1, 1), 1, ((0, 0), (0, 0)), (5, 7)),
    ((1, 1), 2, ((0, 0), (0, 0)), (5, 8)),
    ((1, 1), 1, ((1, 0), (0, 2)), (5, 7)),
    ((3, 3), 1, ((1, 1), (1, 1)), (11, 7)),
    ((3, 3), 2, ((1, 1), (1, 1)), (12, 9)),
    ((2, 5), 3, ((0, 1), (3, 2)), (14, 8)),
)


def _plain(x, kernel, stride, padding):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=numbers, precision="highest"
    )


def _ours(x, kernel, stride, padding):
    return conv2d(x, kernel, (stride, stride), padding, precision="highest")


@pytest.fixture(params=[5500, 20, 1], ids=["one strip", "a few", "one a row"])
def _strips(request, monkeypatch):
    monkeypatch.setattr(plain, "_STRIP_PIXELS", request.param)


@pytest.mark.parametrize("kernel, stride, padding, size", CASES)
@pytest.mark.usefixtures("_strips")
def test_values_and_derivatives_are_a_convolution_s(kernel, stride, padding, size):
    rng = np.random.default_rng(0)
    x, x_dot = (jnp.asarray(rng.normal(size=(2, *size, 3)), jnp.float32) for _ in range(2))
    weights, weights_dot = (jnp.asarray(rng.normal(size=(*kernel, 3, 4)), jnp.float32) for _ in range(2))

    def everything(function):
        function = partial(function, stride=stride, padding=padding)
        out, pull = jax.vjp(function, x, weights)
        squares = lambda *args: jnp.square(function(*args)).sum()
        second = jax.jvp(jax.grad(squares, (0, 1)), (x, weights), (x_dot, weights_dot))[1]
        return out, pull(jnp.sin(out)), jax.jvp(function, (x, weights), (x_dot, weights_dot)), second

    ours, plain = (jax.tree.leaves(everything(function)) for function in (_ours, _plain))
    for one, other in zip(ours, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * float(jnp.abs(other).max()))


def test_the_gradient_of_a_large_map_is_summed_in_few_strips():
    def strips(size):
        shapes = (
            jax.ShapeDtypeStruct((1, size, size, 2), jnp.float32),
            jax.ShapeDtypeStruct((3, 3, 2, 2), jnp.float32),
        )
        gradient = jax.grad(lambda x, kernel: conv2d(x, kernel, (1, 1), ((1, 1), (1, 1))).sum(), 1)
        return jax.jit(gradient).lower(*shapes).as_text().count("stablehlo.convolution")

    few, many = strips(64), strips(1024)
    assert few == 1 and many == plain._MOST_STRIPS

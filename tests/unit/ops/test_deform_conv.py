"""Deformable convolutions against a plain loop over positions and taps, and by hand where the two differ."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.ops import conv_transpose_2x, deform_conv2d, headhunter_deform_conv2d


def _bilinear(image, y, x):
    """``image [H, W, C]`` between its pixels; zero outside of them."""
    low_y, low_x = int(np.floor(y)), int(np.floor(x))
    total = np.zeros(image.shape[2])
    for row in (low_y, low_y + 1):
        for column in (low_x, low_x + 1):
            if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * image[row, column]
    return total


def _plain(x, offsets, mask, kernel, stride, padding, dilation):
    out = np.zeros((*offsets.shape[:3], kernel.shape[3]))
    for b, p, q in np.ndindex(*offsets.shape[:3]):
        for tap, (row, column) in enumerate(np.ndindex(*kernel.shape[:2])):
            y = p * stride[0] - padding[0] + row * dilation[0] + offsets[b, p, q, tap, 0]
            z = q * stride[1] - padding[1] + column * dilation[1] + offsets[b, p, q, tap, 1]
            out[b, p, q] += mask[b, p, q, tap] * _bilinear(x[b], y, z) @ kernel[row, column]
    return out


def _case(sizes, kernel=(3, 3), seed=0, reach=3.0):
    """Offsets that reach outside of a 6x5 map, some of them whole pixels."""
    rng = np.random.default_rng(seed)
    taps = kernel[0] * kernel[1]
    offsets = rng.normal(0, reach, (2, *sizes, taps, 2))
    offsets[0] = np.round(offsets[0])
    values = (
        rng.normal(size=(2, 6, 5, 3)),
        offsets,
        rng.uniform(size=(2, *sizes, taps)),
        rng.normal(size=(*kernel, 3, 4)),
    )
    return tuple(np.asarray(value, np.float32) for value in values)


@pytest.mark.parametrize(
    "kernel, stride, padding, dilation, sizes",
    [((3, 3), (1, 1), (1, 1), (1, 1), (6, 5)), ((3, 2), (2, 1), (2, 0), (2, 1), (3, 4))],
)
def test_as_torchvisions_rule_says(kernel, stride, padding, dilation, sizes):
    case = _case(sizes, kernel)
    found = deform_conv2d(*map(jnp.asarray, case), stride=stride, padding=padding, dilation=dilation)
    np.testing.assert_allclose(found, _plain(*case, stride, padding, dilation), atol=1e-5)


@pytest.mark.parametrize("stride, sizes", [(1, (6, 5)), (2, (3, 3))])
def test_headhunters_is_the_same_where_the_map_is_padded(stride, sizes):
    case = _case(sizes)
    found = headhunter_deform_conv2d(*map(jnp.asarray, case), stride=stride)
    np.testing.assert_allclose(found, _plain(*case, (stride, stride), (1, 1), (1, 1)), atol=1e-5)


def test_headhunters_counts_the_border_twice_without_padding():
    x = jnp.arange(1.0, 13.0).reshape(1, 3, 4, 1)
    kernel = jnp.ones((1, 1, 1, 1))
    offsets = jnp.zeros((1, 3, 4, 1, 2)).at[0, 0, 0, 0].set(jnp.array([5.0, -0.5])).at[0, 0, 1, 0, 0].set(0.25)
    found = headhunter_deform_conv2d(x, offsets, None, kernel, padding=0)
    # Centred on (1, 1): row 6, column 0.5 is clamped to the last row and counts it twice; (1.25, 2) lies inside.
    np.testing.assert_allclose(found[0, 0, :2, 0], [2 * 9.5, 0.75 * 7 + 0.25 * 11])
    # The last row and the last column, reached exactly: twice for each.
    assert found[0, 1, 2, 0] == 4 * 12


@pytest.mark.parametrize("operation", [partial(deform_conv2d, padding=1), headhunter_deform_conv2d])
def test_gradients_are_those_of_finite_differences(operation):
    case = [jnp.asarray(value) for value in _case((6, 5), reach=1.0)]
    case[1] = case[1].at[0].add(0.3)  # at whole pixels a difference has two slopes
    rng = np.random.default_rng(1)
    weights = jnp.asarray(rng.normal(size=(2, 6, 5, 4)), jnp.float32)
    total = jax.jit(lambda *args: (operation(*args) * weights).sum())
    gradients = jax.grad(total, argnums=(0, 1, 2, 3))(*case)
    for position, gradient in enumerate(gradients):
        step = 1e-3 * rng.normal(size=gradient.shape).astype(np.float32)
        if position == 1:
            near = np.abs(case[1] - np.round(case[1])) < 0.02
            step[np.asarray(near)] = 0
        ahead, behind = (
            [value + sign * step if i == position else value for i, value in enumerate(case)] for sign in (1, -1)
        )
        difference = (float(total(*ahead)) - float(total(*behind))) / 2
        np.testing.assert_allclose((gradient * step).sum(), difference, rtol=0.02, atol=2e-4)


def test_a_tap_on_the_edge_keeps_its_gradient():
    """PyTorch's clamp passes it on at the limit itself, where an unmoved tap of the first row lies."""
    x, kernel = jnp.ones((1, 3, 3, 1)), jnp.ones((3, 3, 1, 1))
    gradient = jax.grad(lambda offsets: headhunter_deform_conv2d(x, offsets, None, kernel)[0, 0, 0, 0])(
        jnp.zeros((1, 3, 3, 9, 2))
    )
    # The tap above the first row, in the middle column, moves into the map of ones.
    assert gradient[0, 0, 0, 1, 0] == 1


def test_shapes_that_do_not_fit_are_named():
    x, offsets, mask, kernel = map(jnp.asarray, _case((6, 5)))
    with pytest.raises(ValueError, match=r"expected offsets \(2, 4, 3, 9, 2\)"):
        deform_conv2d(x, offsets, mask, kernel)
    with pytest.raises(ValueError, match=r"a mask \(2, 6, 5, 9\)"):
        headhunter_deform_conv2d(x, offsets, mask[..., :4], kernel)
    with pytest.raises(ValueError, match="kernel"):
        headhunter_deform_conv2d(x[..., :2], offsets, mask, kernel)


@pytest.mark.parametrize("size", [2, 4, 8])
def test_transposed_convolution_spreads_every_pixel(size):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 3, 5, 2)).astype(np.float32), rng.normal(size=(size, size, 2, 3)).astype(np.float32)
    padding = (size - 2) // 2
    expected = np.zeros((2, 6 + 2 * padding, 10 + 2 * padding, 3))
    for row, column in np.ndindex(3, 5):
        expected[:, 2 * row : 2 * row + size, 2 * column : 2 * column + size] += np.einsum(
            "bc,hwco->bhwo", x[:, row, column], kernel
        )
    expected = expected[:, padding : padding + 6, padding : padding + 10]
    np.testing.assert_allclose(conv_transpose_2x(jnp.asarray(x), jnp.asarray(kernel)), expected, atol=1e-5)


def test_transposed_convolution_refuses_odd_kernels():
    with pytest.raises(ValueError, match="even side, not 3x3"):
        conv_transpose_2x(jnp.zeros((1, 2, 2, 1)), jnp.zeros((3, 3, 1, 1)))

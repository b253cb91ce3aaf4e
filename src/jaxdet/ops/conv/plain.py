"""2-D convolution, with an algorithm per platform.

On a CPU, XLA's convolution is fast, but its gradient with respect to the kernel is not. For a 1x1 kernel it copies the
map with channels first and takes three to eight times as long as a matrix product. For a larger kernel it sums over all
pixels at once, and large maps do not fit in the caches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

Pair = tuple[int, int]

_STRIP_PIXELS = 5500  # output pixels per sum; 21,500 pixels of 256 channels at once take 1.6 times as long
_MOST_STRIPS = 16  # limits the size of the program for large batches


def conv2d(
    x: Array, kernel: Array, strides: Sequence[int], padding: Sequence[Pair], *, precision: lax.PrecisionLike = None
) -> Array:
    """``[B, H, W, C]`` and ``[kh, kw, C, O]`` to ``[B, H', W', O]``, with explicit padding of height and width.

    On CPUs a 1x1 kernel is a matrix product, and the gradient of a larger kernel a sum over strips of rows; on other
    platforms it is `lax.conv_general_dilated`. It is differentiable to any order, in forward and reverse mode.
    """
    options = (strides[0], strides[1]), (tuple(padding[0]), tuple(padding[1])), precision
    pointwise = kernel.shape[:2] == (1, 1) and options[1] == ((0, 0), (0, 0))
    on_cpu = _product if pointwise else _summed_by_strips
    return lax.platform_dependent(
        x,
        kernel,
        cpu=lambda x, kernel: on_cpu(x, kernel, *options),
        default=lambda x, kernel: _convolve(x, kernel, *options),
    )


def _convolve(x: Array, kernel: Array, step: Pair, pad: Any, precision: Any) -> Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, step, pad, dimension_numbers=numbers, precision=precision)


def _product(x: Array, kernel: Array, step: Pair, pad: Any, precision: Any) -> Array:
    sampled = x[:, :: step[0], :: step[1]]
    # A product of matrices: the gradient of a product over several dimensions would be transposed in memory first.
    rows = lax.dot(sampled.reshape(-1, sampled.shape[3]), kernel[0, 0], precision=precision)
    return rows.reshape(*sampled.shape[:3], kernel.shape[3])


_summed_by_strips = jax.custom_jvp(_convolve, nondiff_argnums=(2, 3, 4))


def _derivative(step: Pair, pad: Any, precision: Any, primals: tuple[Array, Array], tangents: Any) -> tuple[Array, Any]:
    """The JVP. The kernel's tangent is convolved strip by strip, so that the transpose sums strip by strip."""
    x, kernel = primals
    out = _convolve(x, kernel, step, pad, precision)
    x_dot, kernel_dot = (None if isinstance(dot, SymbolicZero) else dot for dot in tangents)
    parts = []
    if x_dot is not None:
        parts.append(_convolve(x_dot, kernel, step, pad, precision))
    if kernel_dot is not None:
        parts.append(_convolve_strips(x, kernel_dot, step, pad, precision, out.shape))
    return out, sum(parts[1:], parts[0]) if parts else jnp.zeros_like(out)


_summed_by_strips.defjvp(_derivative, symbolic_zeros=True)


def _convolve_strips(x: Array, kernel: Array, step: Pair, pad: Any, precision: Any, shape: tuple[int, ...]) -> Array:
    """`_convolve` in strips of output rows; ``shape``: of the output."""
    batch, height, width, _ = shape
    count = min(math.ceil(batch * height * width / _STRIP_PIXELS), _MOST_STRIPS, height)
    if count < 2:
        return _convolve(x, kernel, step, pad, precision)
    padded = jnp.pad(x, ((0, 0), *pad, (0, 0)))
    strips = []
    for first, last in pairwise(round(height * number / count) for number in range(count + 1)):
        rows = padded[:, first * step[0] : (last - 1) * step[0] + kernel.shape[0]]
        strips.append(_convolve(rows, kernel, step, ((0, 0), (0, 0)), precision))
    return jnp.concatenate(strips, axis=1)

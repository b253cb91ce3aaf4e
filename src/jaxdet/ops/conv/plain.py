"""Convolution of maps: one name, one algorithm a platform.

XLA's own on a CPU is as fast as can be, but not its gradient to the kernel. Of a 1x1 kernel it copies the map with
channels first and takes three to eight times as long as the product that it is; of a larger one it sums over all pixels
at once, and a big map falls out of the caches.
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

_STRIP_PIXELS = 5500  # of outputs, in one sum; 21,500 of 256 channels at once take 1.6 times as long
_MOST_STRIPS = 16  # so that large batches do not make large programs


def conv2d(
    x: Array, kernel: Array, strides: Sequence[int], padding: Sequence[Pair], *, precision: lax.PrecisionLike = None
) -> Array:
    """``[B, H, W, C]`` and ``[kh, kw, C, O]`` to ``[B, H', W', O]``, with explicit padding of height and width.

    On a CPU a 1x1 kernel is a matrix product, and the gradient of a larger one a sum over strips of rows; elsewhere it
    is `lax.conv_general_dilated`. Derivatives of every order and mode are those of a convolution.
    """
    options = (strides[0], strides[1]), (tuple(padding[0]), tuple(padding[1])), precision
    pointwise = kernel.shape[:2] == (1, 1) and options[1] == ((0, 0), (0, 0))
    here = _product if pointwise else _summed_by_strips
    return lax.platform_dependent(
        x,
        kernel,
        cpu=lambda x, kernel: here(x, kernel, *options),
        default=lambda x, kernel: _convolve(x, kernel, *options),
    )


def _convolve(x: Array, kernel: Array, step: Pair, pad: Any, precision: Any) -> Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, step, pad, dimension_numbers=numbers, precision=precision)


def _product(x: Array, kernel: Array, step: Pair, pad: Any, precision: Any) -> Array:
    seen = x[:, :: step[0], :: step[1]]
    # Of matrices: the gradient of a product over several dimensions would be transposed in memory first.
    rows = lax.dot(seen.reshape(-1, seen.shape[3]), kernel[0, 0], precision=precision)
    return rows.reshape(*seen.shape[:3], kernel.shape[3])


_summed_by_strips = jax.custom_jvp(_convolve, nondiff_argnums=(2, 3, 4))


def _derivative(step: Pair, pad: Any, precision: Any, primals: tuple[Array, Array], tangents: Any) -> tuple[Array, Any]:
    """Linear in either tangent; the kernel's is convolved strip by strip, so that the transpose sums strip by strip."""
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
    """`_convolve`, some rows of the output of this shape at a time."""
    batch, height, width, _ = shape
    count = min(math.ceil(batch * height * width / _STRIP_PIXELS), _MOST_STRIPS, height)
    if count < 2:
        return _convolve(x, kernel, step, pad, precision)
    padded = jnp.pad(x, ((0, 0), *pad, (0, 0)))
    strips = []
    for first, last in pairwise(round(height * number / count) for number in range(count + 1)):
        seen = padded[:, first * step[0] : (last - 1) * step[0] + kernel.shape[0]]
        strips.append(_convolve(seen, kernel, step, ((0, 0), (0, 0)), precision))
    return jnp.concatenate(strips, axis=1)

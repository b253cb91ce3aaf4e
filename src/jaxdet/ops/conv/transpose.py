"""Transposed convolution with stride 2 that exactly doubles height and width.

It is computed as four plain convolutions, one for each position in a 2x2 block of outputs, which avoids products with
the zeros of a dilated input.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

from jaxdet.ops.conv.plain import conv2d


def conv_transpose_2x(x: Array, kernel: Array, *, precision: lax.PrecisionLike = "highest") -> Array:
    """PyTorch's ``conv_transpose2d(x, kernel, stride=2, padding=(k - 2) // 2)`` for even k, channels last.

    Args:
      x: ``[B, H, W, C]``.
      kernel: ``[k, k, C, O]``: PyTorch's ``[C, O, k, k]``, transposed but not rotated.

    Returns:
      ``[B, 2 H, 2 W, O]``.

    Raises:
      ValueError: k is odd, or the shapes do not match.
    """
    if x.ndim != 4 or kernel.ndim != 4 or kernel.shape[2] != x.shape[3]:
        raise ValueError(f"expected a map [B, H, W, C] and a kernel [k, k, C, O], got {x.shape} and {kernel.shape}")
    size = kernel.shape[0]
    if size % 2 or kernel.shape[1] != size:
        raise ValueError(f"the kernel must be square with an even side, not {kernel.shape[0]}x{kernel.shape[1]}")
    rows = []
    for row in range(2):
        positions = []
        for column in range(2):
            (top, vertical), (left, horizontal) = _phase(row, size), _phase(column, size)
            positions.append(
                conv2d(x, kernel[top::2, left::2][::-1, ::-1], (1, 1), (vertical, horizontal), precision=precision)
            )
        rows.append(jnp.stack(positions, axis=3))  # [B, H, W, 2, O]
    stacked = jnp.stack(rows, axis=2)  # [B, H, 2, W, 2, O]
    batch, height, _, width, _, channels = stacked.shape
    return stacked.reshape(batch, 2 * height, 2 * width, channels)


def _phase(place: int, size: int) -> tuple[int, tuple[int, int]]:
    """The first of the taps (every second one) that contribute to outputs of this parity, and their padding.

    Input i contributes to output 2 i + tap - padding.
    """
    padding = (size - 2) // 2
    first = (padding + place) % 2
    last = first + size - 2
    return first, ((last - padding - place) // 2, (padding + place - first) // 2)

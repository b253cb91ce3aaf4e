"""Transposed convolution of stride 2 that doubles height and width exactly.

It is computed as four plain convolutions, one for each place in a 2x2 block of outputs, so that no product has a zero
for a factor that the stride put there.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

from jaxdet.ops.conv.plain import conv2d


def conv_transpose_2x(x: Array, kernel: Array, *, precision: lax.PrecisionLike = "highest") -> Array:
    """PyTorch's ``conv_transpose2d(x, kernel, stride=2, padding=(k - 2) // 2)`` for even k, channels last.

    Args:
      x: ``[B, H, W, C]``.
      kernel: ``[k, k, C, O]``: PyTorch's ``[C, O, k, k]``, transposed and not turned round.

    Returns:
      ``[B, 2 H, 2 W, O]``.

    Raises:
      ValueError: k is odd, or the shapes do not fit together.
    """
    if x.ndim != 4 or kernel.ndim != 4 or kernel.shape[2] != x.shape[3]:
        raise ValueError(f"expected a map [B, H, W, C] and a kernel [k, k, C, O], got {x.shape} and {kernel.shape}")
    size = kernel.shape[0]
    if size % 2 or kernel.shape[1] != size:
        raise ValueError(f"the kernel is square with an even side, not {kernel.shape[0]}x{kernel.shape[1]}")
    rows = []
    for row in range(2):
        places = []
        for column in range(2):
            (top, vertical), (left, horizontal) = _phase(row, size), _phase(column, size)
            places.append(
                conv2d(x, kernel[top::2, left::2][::-1, ::-1], (1, 1), (vertical, horizontal), precision=precision)
            )
        rows.append(jnp.stack(places, axis=3))  # [B, H, W, 2, O]
    stacked = jnp.stack(rows, axis=2)  # [B, H, 2, W, 2, O]
    batch, height, _, width, _, channels = stacked.shape
    return stacked.reshape(batch, 2 * height, 2 * width, channels)


def _phase(place: int, size: int) -> tuple[int, tuple[int, int]]:
    """First tap of every second one that reaches outputs of this parity, and the padding of their convolution.

    Input i reaches output 2 i + tap - padding.
    """
    padding = (size - 2) // 2
    first = (padding + place) % 2
    last = first + size - 2
    return first, ((last - padding - place) // 2, (padding + place - first) // 2)

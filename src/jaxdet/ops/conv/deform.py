"""Modulated deformable convolution (Zhu et al. 2018): torchvision's, and HeadHunter's.

Axes: B images, H W C a map, P Q output positions, T = kh * kw taps of the kernel, row by row.

Each tap reads the map by bilinear interpolation. The two functions differ in the positions and weights at the borders;
with at least one pixel of padding they return the same numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from jaxdet.ops.boxes import float_dtype


class AxisCorners(NamedTuple):
    """The two pixels around every position along one axis, as indices into the map, and their weights."""

    low: Array  # [B, P, Q, T] int32
    high: Array
    weight_low: Array  # [B, P, Q, T]
    weight_high: Array


def deform_conv2d(
    x: Array,
    offsets: Array,
    mask: Array | None,
    kernel: Array,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    precision: lax.PrecisionLike = "highest",
) -> Array:
    """``torchvision.ops.deform_conv2d`` with one group and channels last. Positions outside of the map read zero.

    Args:
      x: ``[B, H, W, C]``.
      offsets: ``[B, P, Q, T, 2]``, (vertical, horizontal) offset of each tap. P and Q are as in a plain convolution.
      mask: ``[B, P, Q, T]``, a factor for each tap; None: 1.
      kernel: ``[kh, kw, C, O]``.
      stride, padding, dilation: one number or (vertical, horizontal).

    Returns:
      ``[B, P, Q, O]`` in the dtype of ``x``, differentiable in all four arrays.

    Raises:
      ValueError: the shapes do not match.
    """
    steps, pads, gaps = (_pair(value) for value in (stride, padding, dilation))
    spans = [gap * (size - 1) + 1 for gap, size in zip(gaps, kernel.shape[:2], strict=True)]
    sizes = [(n + 2 * p - k) // s + 1 for n, p, k, s in zip(x.shape[1:3], pads, spans, steps, strict=True)]
    _check(x, offsets, mask, kernel, (sizes[0], sizes[1]))
    corners = []
    for axis in range(2):
        where = _taps(axis, kernel, gaps[axis], sizes[axis], steps[axis], -pads[axis], offsets)
        low = jnp.floor(lax.stop_gradient(where))
        length = x.shape[1 + axis]

        def inside(index: Array, weight: Array, length: int = length) -> Array:
            return jnp.where((index >= 0) & (index < length), weight, 0)

        high_weight = where - low
        corners.append(
            AxisCorners(
                _index(low, length), _index(low + 1, length), inside(low, 1 - high_weight), inside(low + 1, high_weight)
            )
        )
    return _convolve(x, corners[0], corners[1], mask, kernel, precision)


def headhunter_deform_conv2d(
    x: Array,
    offsets: Array,
    mask: Array | None,
    kernel: Array,
    *,
    stride: int = 1,
    padding: int = 1,
    precision: lax.PrecisionLike = "highest",
) -> Array:
    """The deformable convolution of HeadHunter (Sundararaman et al., CVPR 2021) and of other PyTorch implementations.

    The map is padded with zeros; positions and the pixels around them are clamped to the padded map. Positions on the
    last row thus count that row twice, which only has an effect with ``padding=0``. The first kernel is centred on the
    second row of the padded map for any padding; with ``padding=0`` it is one pixel further inside.

    Args:
      x: ``[B, H, W, C]``.
      offsets: ``[B, P, Q, T, 2]``, (vertical, horizontal) offset of each tap; P = ceil(H / stride), Q likewise.
      mask: ``[B, P, Q, T]``, a factor for each tap; None: 1.
      kernel: ``[k, k, C, O]``, k odd.

    Returns:
      ``[B, P, Q, O]`` in the dtype of ``x``, differentiable in all four arrays.

    Raises:
      ValueError: the shapes do not match.
    """
    sizes = (-(-x.shape[1] // stride), -(-x.shape[2] // stride))
    _check(x, offsets, mask, kernel, sizes)
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    corners = []
    for axis in range(2):
        length = x.shape[1 + axis]
        where = _taps(axis, kernel, 1, sizes[axis], stride, 1 - kernel.shape[axis] // 2, offsets)
        low = jnp.floor(lax.stop_gradient(where))
        low, high = _index(low, length), _index(low + 1, length)
        where = _clamp(where, length - 1)
        corners.append(
            AxisCorners(
                low, high, 1 + (low.astype(where.dtype) - where), 1 - (high.astype(where.dtype) - where)
            )
        )  # fmt: skip
    return _convolve(x, corners[0], corners[1], mask, kernel, precision)


def _taps(axis: int, kernel: Array, dilation: int, count: int, stride: int, first: int, offsets: Array) -> Array:
    """The positions of all taps along an axis, ``[B, P, Q, T]``; ``first`` is the start of the first kernel."""
    dtype = float_dtype(offsets)
    start = (first + stride * jnp.arange(count)).astype(dtype)
    start = start.reshape((1, count, 1, 1) if axis == 0 else (1, 1, count, 1))
    height, width = kernel.shape[:2]
    rows, columns = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    tap = (dilation * (rows, columns)[axis]).reshape(1, 1, 1, -1).astype(dtype)
    return start + tap + offsets[..., axis].astype(dtype)


def _index(position: Array, length: int) -> Array:
    return jnp.clip(position, 0, length - 1).astype(jnp.int32)


def _clamp(position: Array, limit: int) -> Array:
    # As in PyTorch, the gradient at the limits is 1; that of jnp.clip is 0.5.
    position = jnp.where(position < 0, jnp.zeros((), position.dtype), position)
    return jnp.where(position > limit, jnp.asarray(limit, position.dtype), position)


def _convolve(
    x: Array, y: AxisCorners, columns: AxisCorners, mask: Array | None, kernel: Array, precision: lax.PrecisionLike
) -> Array:
    """Sums the taps' products with their weights, one tap at a time, which bounds the memory to a few maps."""
    batch, _, width, channels = x.shape
    out_dtype = x.dtype
    dtype: DTypeLike = float_dtype(x)
    flat = x.astype(dtype).reshape(batch, -1, channels)  # its gradient is summed in at least float32, too
    weights = kernel.astype(dtype).reshape(-1, channels, kernel.shape[-1])  # [T, C, O]
    masks = jnp.ones_like(y.weight_low) if mask is None else mask
    gather = jax.vmap(lambda rows, index: jnp.take(rows, index, axis=0, mode="clip"))

    def tap(total: Array, inputs: tuple[AxisCorners, AxisCorners, Array, Array]) -> tuple[Array, None]:
        y, x, factor, weight = inputs  # [B, P, Q] each, and [C, O]
        value = jnp.zeros((), dtype)
        for row, row_weight in ((y.low, y.weight_low), (y.high, y.weight_high)):
            for column, column_weight in ((x.low, x.weight_low), (x.high, x.weight_high)):
                value = value + (row_weight * column_weight)[..., None].astype(dtype) * gather(
                    flat, row * width + column
                )
        value = value * factor[..., None].astype(dtype)
        return total + jnp.matmul(value, weight, precision=precision), None

    first = jnp.zeros((*y.low.shape[:3], kernel.shape[-1]), dtype)
    per_tap = jax.tree.map(lambda array: jnp.moveaxis(array, -1, 0), (y, columns, masks))
    total, _ = lax.scan(jax.checkpoint(tap), first, (*per_tap, weights))
    return total.astype(out_dtype)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _check(x: Array, offsets: Array, mask: Array | None, kernel: Array, sizes: tuple[int, int]) -> None:
    """Raises ValueError if the shapes do not match."""
    taps = kernel.shape[0] * kernel.shape[1]
    wanted = (x.shape[0], *sizes, taps)
    if x.ndim != 4 or kernel.ndim != 4 or kernel.shape[2] != x.shape[3]:
        raise ValueError(f"expected a map [B, H, W, C] and a kernel [kh, kw, C, O], got {x.shape} and {kernel.shape}")
    if offsets.shape != (*wanted, 2) or (mask is not None and mask.shape != wanted):
        given = None if mask is None else mask.shape
        raise ValueError(f"expected offsets {(*wanted, 2)} and a mask {wanted}, got {offsets.shape} and {given}")

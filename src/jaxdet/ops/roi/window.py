"""RoIAlign by fixed windows and matrix products: the algorithm for TPUs.

TPUs read scattered rows slowly and multiply matrices fast. On one contiguous 32x32 window per region, bilinear
interpolation and averaging are two products with small weight matrices. Regions with samples outside of their window
use the gather. They are sorted first, so that few chunks need it, and have their own loop, as a ``cond`` would copy the
canvas.

Axes: R regions, C channels, PH and PW output bins, S samples per bin and side, (h, w) a window.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from jaxdet.ops.roi.gather import pool_few, scatter_few, split_regions
from jaxdet.ops.roi.samples import AxisSamples, weights_of_cells

_WINDOW = 32
# These sizes fit in the 128 MB of a core's own memory on v5e and v6e, for P2 to P5 of 800x1344 pixels, 256 channels.
# The numbers of windows divide that of long regions.
_WINDOWS_PER_STEP = 4  # 1 MB each in float32
_WINDOWS_PER_STEP_BACKWARD = 8  # 0.5 MB each, with _CHANNELS_PER_PASS channels
_CHANNELS_PER_PASS = 128  # of the gradient's canvas, 52 MB in float32
_LONG_PER_STEP = 16


def pool_by_window(canvas: Array, y: AxisSamples, x: AxisSamples, origin: Array) -> Array:
    """Pools every region.

    Args:
      canvas: ``[H, W, C]``, all levels side by side.
      y: samples ``[R, PH, S]``.
      x: samples ``[R, PW, S]``.
      origin: ``[R, 2]`` int32, (row, column) of the canvas where the region's level begins.

    Returns:
      ``[R, PH, PW, C]`` in the dtype of the weights.
    """
    y, x = _shift(y, origin[:, 0]), _shift(x, origin[:, 1])
    long = _too_long(y, canvas.shape[0]) | _too_long(x, canvas.shape[1])  # [R]
    order = jnp.argsort(~long, stable=True)
    windows = _arrange((_Side.of(y, canvas.shape[0]), _Side.of(x, canvas.shape[1])), order, _WINDOWS_PER_STEP)
    pooled = jax.lax.map(lambda chunk: _window_chunk(canvas, *chunk), windows)  # [chunks, chunk, PH, PW, C]
    pooled = pooled.reshape(-1, _LONG_PER_STEP, *pooled.shape[2:])
    pooled = _replace_long(pooled, canvas, _arrange((long, y, x), order, _LONG_PER_STEP))
    return pooled.reshape(-1, *pooled.shape[2:])[jnp.argsort(order)]


def window_gradient(
    grad: Array, y: AxisSamples, x: AxisSamples, origin: Array, size: tuple[int, int], dtype: DTypeLike
) -> Array:
    """The gradient of ``pool_by_window`` with respect to its canvas, ``[H, W, C]`` with ``size`` = (H, W).

    It is summed in the dtype of the weights and returned in ``dtype``.
    """
    y, x = _shift(y, origin[:, 0]), _shift(x, origin[:, 1])
    long = _too_long(y, size[0]) | _too_long(x, size[1])
    order = jnp.argsort(~long, stable=True)
    sides = _Side.of(y, size[0]), _Side.of(x, size[1])

    def channels_gradient(grad: Array) -> Array:
        grad = grad.astype(y.weight_low.dtype)
        short = jnp.where(long[:, None, None, None], 0, grad)
        windows = _arrange((short, *sides), order, _WINDOWS_PER_STEP_BACKWARD)
        canvas = jnp.zeros((*size, grad.shape[-1]), grad.dtype)
        canvas, _ = jax.lax.scan(lambda canvas, chunk: (_add_windows(canvas, *chunk), None), canvas, windows)
        return _add_long(canvas, _arrange((grad, long, y, x), order, _LONG_PER_STEP)).astype(dtype)

    passes = jnp.split(grad, np.arange(_CHANNELS_PER_PASS, grad.shape[-1], _CHANNELS_PER_PASS), axis=-1)
    return jnp.concatenate([channels_gradient(part) for part in passes], axis=-1)


class _Side(NamedTuple):
    """One side of each region's window, computed for all regions before the loop, where small operations are slow."""

    start: Array  # [R] int32, the first cell
    weights: Array  # [R, P, window], of each cell in each bin
    touched: Array  # [R, window] bool, whether some sample reads the cell

    @classmethod
    def of(cls, samples: AxisSamples, length: int) -> _Side:
        """The windows for samples along a side of the canvas of length ``length``."""
        size = min(_WINDOW, length)
        lowest, _ = _reach(samples)
        start = jnp.clip(lowest, 0, length - size)
        weights = weights_of_cells(samples, start[:, None] + jnp.arange(size)[None])
        return cls(start, weights, jnp.any(weights != 0, axis=1))


def _replace_long(pooled: Array, canvas: Array, chunks: tuple) -> Array:
    """Replaces the results of the long regions by those of the gather."""

    def pool_chunk(index: Array, pooled: Array) -> Array:
        long, y, x = jax.tree.map(lambda leaf: leaf[index], chunks)
        exact = jnp.where(long[:, None, None, None], _gather_chunk(canvas, y, x), pooled[index])
        return pooled.at[index].set(exact)

    return _while_long(chunks[0], pool_chunk, pooled)


def _add_long(canvas: Array, chunks: tuple) -> Array:
    """Adds the gradient of the long regions."""

    def add_chunk(index: Array, canvas: Array) -> Array:
        grad, long, y, x = jax.tree.map(lambda leaf: leaf[index], chunks)
        return _scatter_chunk(canvas, jnp.where(long[:, None, None, None], grad, 0), y, x)

    return _while_long(chunks[1], add_chunk, canvas)


def _while_long(long: Array, body: Callable[[Array, Array], Array], carry: Array) -> Array:
    """Calls ``body(index, carry)`` for every chunk with a long region, ``long [chunks, chunk]``; these come first."""

    def has_long(state: tuple[Array, Array]) -> Array:
        index, _ = state
        return (index < len(long)) & jnp.any(long[jnp.minimum(index, len(long) - 1)])

    start = (jnp.zeros((), jnp.int32), carry)
    return jax.lax.while_loop(has_long, lambda state: (state[0] + 1, body(*state)), start)[1]


def _gather_chunk(canvas: Array, y: AxisSamples, x: AxisSamples) -> Array:
    """Pools a chunk by the gather, exact for regions of any length."""
    height, width, channels = canvas.shape
    offset, stride = _canvas_rows(y, width)
    return pool_few(canvas.reshape(height * width, channels), y, x, offset, stride)


def _scatter_chunk(canvas: Array, grad: Array, y: AxisSamples, x: AxisSamples) -> Array:
    """The gradient of ``_gather_chunk``, added to ``canvas``."""
    height, width, _ = canvas.shape
    offset, stride = _canvas_rows(y, width)
    return scatter_few(canvas.reshape(height * width, -1), grad, y, x, offset, stride).reshape(canvas.shape)


def _canvas_rows(y: AxisSamples, width: int) -> tuple[Array, Array]:
    """The offset and stride that address the cells of a whole canvas."""
    offset = jnp.zeros(y.low.shape[0], jnp.int32)
    return offset, offset + width


@jax.named_scope("roi_align")  # again, as JAX does not pass scopes on to the bodies of loops
def _window_chunk(canvas: Array, y: _Side, x: _Side) -> Array:
    """Pools a chunk of regions that fit in their windows: slice, interpolate along y, then along x."""
    size = (y.weights.shape[-1], x.weights.shape[-1], canvas.shape[-1])
    windows = jnp.stack([jax.lax.dynamic_slice(canvas, place, size) for place in _places(y, x)])  # [R, h, w, C]
    # Cells that no sample reads may be padding or another level and contain NaN, and 0 * NaN is NaN.
    touched = y.touched[:, :, None, None] & x.touched[:, None, :, None]
    windows = jnp.where(touched, windows.astype(y.weights.dtype), 0)
    # Without the explicit precision, TPUs would round the bilinear weights to bfloat16.
    rows = jnp.einsum("rph,rhwc->rpwc", y.weights, windows, precision=jax.lax.Precision.HIGHEST)
    return jnp.einsum("rqw,rpwc->rpqc", x.weights, rows, precision=jax.lax.Precision.HIGHEST)


@jax.named_scope("roi_align")
def _add_windows(canvas: Array, grad: Array, y: _Side, x: _Side) -> Array:
    """The gradient of ``_window_chunk``, added to ``canvas``."""
    rows = jnp.einsum("rqw,rpqc->rpwc", x.weights, grad, precision=jax.lax.Precision.HIGHEST)
    windows = jnp.einsum("rph,rpwc->rhwc", y.weights, rows, precision=jax.lax.Precision.HIGHEST)
    for place, window in zip(_places(y, x), windows, strict=True):
        sum_ = jax.lax.dynamic_slice(canvas, place, window.shape) + window
        canvas = jax.lax.dynamic_update_slice(canvas, sum_, place)
    return canvas


def _places(y: _Side, x: _Side) -> list[tuple[Array, Array, Array]]:
    """The start of each window on the canvas. Scalars avoid reading indices from memory."""
    channel = jnp.zeros((), y.start.dtype)  # a literal 0 would be an int64 under jax_enable_x64
    return [(y.start[r], x.start[r], channel) for r in range(y.start.shape[0])]


def _reach(samples: AxisSamples) -> tuple[Array, Array]:
    """The lowest and highest cell, ``[R]`` each, that the samples with weights read; (0, 0) without any."""
    used = samples.weight_low + samples.weight_high > 0
    lowest = jnp.min(jnp.where(used, samples.low, jnp.iinfo(jnp.int32).max), axis=(1, 2))
    highest = jnp.max(jnp.where(used, samples.high, 0), axis=(1, 2))
    return jnp.minimum(lowest, highest), highest


def _too_long(samples: AxisSamples, length: int) -> Array:
    """Whether each region's samples exceed a window along this side of the canvas, ``[R]`` bool."""
    lowest, highest = _reach(samples)
    return highest - lowest >= min(_WINDOW, length)


def _shift(samples: AxisSamples, origin: Array) -> AxisSamples:
    """Shifts samples from cells of their level to cells of the canvas."""
    origin = origin[:, None, None]
    return samples._replace(low=samples.low + origin, high=samples.high + origin)


def _arrange(tree: tuple, order: Array, size: int) -> tuple:
    """Every leaf's rows in ``order``, padded with zero weights to whole long chunks, in chunks of ``size``."""
    chunks = split_regions(jax.tree.map(lambda leaf: leaf[order], tree), _LONG_PER_STEP)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, size, *leaf.shape[2:]), chunks)

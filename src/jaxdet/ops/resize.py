"""Resizing, numerically equivalent to PyTorch's: output sizes, bilinear on the host, nearest on the device.

``jax.image.resize`` differs: its bilinear filter antialiases when shrinking, and its nearest samples at pixel centres,
which gives other results for sizes such as 13 -> 25.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jax import Array

_ROWS_AT_ONCE = 16  # rows of the result; their data stays in the CPU's caches


def resized_size(height: int, width: int, min_size: int, max_size: int, *, enlarge: bool = True) -> tuple[int, int]:
    """The size (height, width) of an image after torchvision's ``GeneralizedRCNNTransform``.

    The shorter side becomes ``min_size``, unless the longer one would exceed ``max_size``. Both are rounded down from
    a float64 product, so that the shorter side of some images is ``min_size - 1``. With ``enlarge=False`` smaller
    images keep their size, as in HeadHunter.
    """
    if min(height, width, min_size, max_size) < 1:
        raise ValueError(
            f"resized_size: got a {height}x{width} image, min_size={min_size}, max_size={max_size}; "
            "all four must be at least 1."
        )
    scale = min(min_size / min(height, width), max_size / max(height, width))
    if scale > 1 and not enlarge:
        return height, width
    return math.floor(height * scale), math.floor(width * scale)


def resize_bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes ``image [H, W, C]`` on the host to ``size`` = (height, width), ``[height, width, C]``.

    As ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False, antialias=False)`` with that output
    size: the scale is computed from the two sizes, without antialiasing. Integer images are computed in float32.
    """
    if image.ndim != 3:
        raise ValueError(f"resize_bilinear: expected an image [H, W, C], got shape {image.shape}.")
    dtype = np.promote_types(image.dtype, np.float32) if image.dtype.kind == "f" else np.dtype(np.float32)
    image = np.ascontiguousarray(image, dtype)
    if image.shape[:2] == tuple(size):
        return image.copy()
    # The axis that shrinks most, or grows least, is resized first, so that the second pass reads less.
    axes = (0, 1) if size[0] * image.shape[1] < size[1] * image.shape[0] else (1, 0)
    channels = image.shape[2]
    matrix = image.reshape(image.shape[0], -1)
    for axis in axes:
        matrix = _interpolate(matrix, axis, size[axis], channels)
    return matrix.reshape(*size, channels)


def _interpolate(matrix: np.ndarray, axis: int, count: int, channels: int) -> np.ndarray:
    """Linear interpolation of ``[H, W * channels]`` to ``count`` rows (axis 0) or pixels per row (axis 1)."""
    length = matrix.shape[axis] // (channels if axis == 1 else 1)
    if length == count:
        return matrix
    low, high, weight = _linear(length, count, matrix.dtype.type)
    if axis == 1:  # single numbers instead of pixels, which numpy gathers faster
        low, high = ((index[:, None] * channels + np.arange(channels)).ravel() for index in (low, high))
        weight = np.repeat(weight, channels)
    height = count if axis == 0 else matrix.shape[0]
    result = np.empty((height, matrix.shape[1] if axis == 0 else count * channels), matrix.dtype)
    buffer = np.empty((_ROWS_AT_ONCE, result.shape[1]), matrix.dtype)
    for first in range(0, height, _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        near = result[rows]
        far = buffer[: len(near)]
        if axis == 0:
            seen, lows, highs, weights = matrix, low[rows], high[rows], weight[rows, None]
        else:
            seen, lows, highs, weights = matrix[rows], low, high, weight[None]
        np.take(seen, lows, axis=axis, out=near, mode="clip")
        np.take(seen, highs, axis=axis, out=far, mode="clip")
        near *= 1 - weights
        far *= weights
        near += far
    return result


def _linear(length: int, count: int, dtype: type[np.floating]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two neighbours of each of ``count`` points over ``length`` samples, and the weight of the second."""
    centre = np.arange(count, dtype=dtype) + dtype(0.5)
    # PyTorch is compiled to a fused multiply-add here, which rounds once; in float64 the product is exact.
    position = (np.float64(dtype(length) / dtype(count)) * centre - 0.5).astype(dtype)
    position = np.maximum(position, dtype(0))
    low = np.minimum(position.astype(np.int64), length - 1)
    high = np.minimum(low + 1, length - 1)
    return low, high, np.clip(position - low.astype(dtype), dtype(0), dtype(1))


def resize_nearest(x: Array, size: tuple[int, int]) -> Array:
    """Resizes ``x [..., H, W, C]`` to ``size`` = (height, width) by repeating pixels, ``[..., height, width, C]``.

    As ``torch.nn.functional.interpolate(mode="nearest")`` with that output size: output row ``i`` shows input row
    ``floor(i * H / height)``, with the ratio and the product rounded to float32.
    """
    if x.ndim < 3:
        raise ValueError(f"resize_nearest: expected [..., H, W, C], got shape {x.shape}.")
    repeats = []
    for axis, count in zip((-3, -2), size, strict=True):
        length = x.shape[axis]
        if count == length:
            repeats.append(1)
            continue
        source = nearest_source(length, count)
        if count % length == 0 and np.array_equal(source, np.arange(count) // (count // length)):
            repeats.append(count // length)
        else:
            x = jnp.take(x, source, axis=axis, mode="clip")
            repeats.append(1)
    return _repeat(x, *repeats)


def _repeat(x: Array, rows: int, columns: int) -> Array:
    """Repeats each row and column of ``x [..., H, W, C]``, without a gather; the gradient is a plain sum."""
    *batch, height, width, channels = x.shape
    blocks = jnp.broadcast_to(x[..., None, :, None, :], (*batch, height, rows, width, columns, channels))
    return blocks.reshape(*batch, height * rows, width * columns, channels)


def nearest_source(length: int, count: int) -> np.ndarray:
    """The source index of each of ``count`` output positions, ``[count]``, as a constant."""
    ratio = np.float32(length) / np.float32(count)
    source = np.floor(np.arange(count, dtype=np.float32) * ratio).astype(np.int32)
    return np.minimum(source, length - 1)

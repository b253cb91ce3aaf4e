"""Positions and weights of RoIAlign's samples, shared by the algorithms of all platforms.

Axes: R regions, L levels, P output bins along one side, S samples per bin. RoIAlign is separable: a bin's value is a
weighted sum over (rows of the samples) x (columns of the samples), so that each side has its own samples.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxdet.ops.boxes import float_dtype
from jaxdet.ops.exact import quotient, rounded


class AxisSamples(NamedTuple):
    """Linear interpolation along one side: the two neighbours of each sample, always inside the map.

    The weights include the factor 1/S of the mean. They are 0 for samples outside of the map and for invalid regions.
    """

    low: Array  # [R, P, S] int32
    high: Array  # [R, P, S] int32
    weight_low: Array  # [R, P, S]
    weight_high: Array  # [R, P, S]


def box_samples(
    boxes: Array,
    scales: Array,
    extents: Array,
    valid: Array,
    *,
    output_size: tuple[int, int],
    sampling_ratio: int,
    aligned: bool,
) -> tuple[AxisSamples, AxisSamples]:
    """Samples of every region along y and along x.

    Args:
      boxes: ``[R, 4]`` xyxy in input pixels.
      scales: ``[R]``, map cells per pixel at the region's level.
      extents: ``[R, 2]`` int, (height, width) of the part of the region's level that is not padding.
      valid: ``[R]`` bool.
      output_size: (PH, PW).
      sampling_ratio: S.
      aligned: shift by half a cell and allow regions smaller than a cell, as in torchvision.

    Returns:
      ``AxisSamples`` of y, ``[R, PH, S]``, and of x, ``[R, PW, S]``, in the dtype of ``scales`` (at least float32).
    """
    edges = box_edges(boxes, scales, valid, aligned)
    return (
        _axis_samples(edges[:, 1], edges[:, 3], extents[:, 0], valid, output_size[0], sampling_ratio, aligned),
        _axis_samples(edges[:, 0], edges[:, 2], extents[:, 1], valid, output_size[1], sampling_ratio, aligned),
    )


def box_edges(boxes: Array, scales: Array, valid: Array, aligned: bool) -> Array:
    """``boxes [R, 4]`` in map cells; invalid ones are 0."""
    dtype = float_dtype(boxes, scales)
    boxes = jnp.where(valid[:, None], boxes.astype(dtype), 0)
    return rounded(boxes * scales.astype(dtype)[:, None]) - (0.5 if aligned else 0.0)


def bin_size_of(start: Array, end: Array, bins: int, aligned: bool) -> Array:
    """The length of a bin ``[R]`` in cells, from the ends of a side."""
    span = end - start
    return quotient(span if aligned else jnp.maximum(span, 1), bins)


def interpolate(position: Array, length: Array) -> tuple[Array, Array, Array, Array]:
    """The neighbours of samples on a side of ``length`` cells (which broadcasts against ``position``).

    Returns:
      Whether each sample is used (not NaN, and at most one cell outside); the cells before and after it, int32; the
      fraction of the way from the first to the second.
    """
    last = jnp.maximum(length, 1).astype(jnp.int32) - 1
    counts = (position >= -1) & (position <= length.astype(position.dtype))  # false for NaN
    position = jnp.clip(jnp.where(counts, position, 0), 0, last.astype(position.dtype))
    low = position.astype(jnp.int32)
    return counts, low, jnp.minimum(low + 1, last), position - low.astype(position.dtype)


def weights_of_cells(samples: AxisSamples, cells: Array) -> Array:
    """The weight of the map's ``cells [R, N]`` (or ``[1, N]``) in each bin, ``[R, P, N]``."""
    cell = cells[:, None, None, :]  # [R, 1, 1, N]
    weights = jnp.where(samples.low[..., None] == cell, samples.weight_low[..., None], 0)
    weights += jnp.where(samples.high[..., None] == cell, samples.weight_high[..., None], 0)
    return jnp.sum(weights, axis=2)


def _axis_samples(
    start: Array, end: Array, length: Array, valid: Array, bins: int, ratio: int, aligned: bool
) -> AxisSamples:
    """Samples between ``start`` and ``end`` (``[R]``, in cells) of a side of ``length [R]`` cells."""
    dtype = start.dtype
    bin_size = bin_size_of(start, end, bins, aligned)[:, None, None]  # [R, 1, 1]
    bin_index = jnp.arange(bins, dtype=dtype)[None, :, None]
    sample_index = jnp.arange(ratio, dtype=dtype)[None, None, :] + 0.5
    # In the order of torchvision's C++ code: bin corner first, then the sample's product before its quotient.
    position = start[:, None, None] + rounded(bin_index * bin_size)  # [R, P, 1]
    position = position + quotient(sample_index * bin_size, ratio)  # [R, P, S]
    counts, low, high, fraction = interpolate(position, length[:, None, None])
    counts &= valid[:, None, None]
    return AxisSamples(low, high, jnp.where(counts, (1 - fraction) / ratio, 0), jnp.where(counts, fraction / ratio, 0))

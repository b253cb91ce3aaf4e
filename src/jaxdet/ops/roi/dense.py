"""RoIAlign with adaptive sampling, as products with dense weights.

With ``sampling_ratio <= 0`` torchvision takes ``ceil(bin size)`` samples per bin and side, so that their number depends
on the box. RoIAlign is separable: along each side, a bin is a weighted sum of the map's cells for any number of
samples. As samples are more than half a cell apart, at most five samples of a bin read the same cell. The size of a
box is not limited.

Axes: R regions, P output bins along a side, N cells of the map along it, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array, lax

from jaxdet.ops.boxes import float_dtype
from jaxdet.ops.exact import quotient, rounded
from jaxdet.ops.map_regions import map_regions
from jaxdet.ops.roi.samples import bin_size_of, box_edges, interpolate

_CANDIDATES = 7  # five samples, and one on either side because of rounding


def adaptive_weights(
    boxes: Array,
    scale: Array,
    extent: Array,
    valid: Array,
    *,
    shape: tuple[int, int],
    output_size: tuple[int, int],
    aligned: bool,
) -> tuple[Array, Array]:
    """The weight of each cell of a map in each bin of each region.

    Args:
      boxes: ``[R, 4]`` xyxy in input pixels.
      scale: scalar, map cells per pixel.
      extent: ``[2]`` int, (height, width) of the part of the map that is not padding.
      valid: ``[R]`` bool; the weights of invalid regions are 0.
      shape: (height, width) of the map.
      output_size: (PH, PW).
      aligned: see `roi_align`.

    Returns:
      ``[R, PH, height]`` and ``[R, PW, width]``, in the dtype of ``scale`` and ``boxes`` (at least float32).
    """
    scales = jnp.broadcast_to(scale, boxes.shape[:1])
    edges = box_edges(boxes, scales, valid, aligned)
    return (
        _side(edges[:, 1], edges[:, 3], extent[0], valid, shape[0], output_size[0], aligned),
        _side(edges[:, 0], edges[:, 2], extent[1], valid, shape[1], output_size[1], aligned),
    )


def _side(start: Array, end: Array, length: Array, valid: Array, cells: int, bins: int, aligned: bool) -> Array:
    """The weights ``[R, P, N]`` along one side, from its ends ``[R]`` in cells, on a map of length ``length``."""
    dtype = start.dtype
    size = bin_size_of(start, end, bins, aligned)[:, None]  # [R, 1]
    count = jnp.ceil(size)  # samples per bin; an empty box has none
    some = count > 0
    divisor = jnp.where(some, count, 1)[..., None]
    bin_start = start[:, None] + rounded(jnp.arange(bins, dtype=dtype)[None] * size)  # [R, P]
    bin_start, size, count = bin_start[..., None], size[..., None], count[..., None]
    cell = jnp.arange(cells, dtype=jnp.int32)[None, None]
    # Samples from one cell before to one cell after a cell read it, at the map's borders too.
    spacing = jnp.where(some[..., None], size / divisor, 1)
    first = jnp.maximum(jnp.floor((cell.astype(dtype) - 1 - bin_start) / spacing - 0.5) - 1, 0)  # [R, P, N]
    weights = jnp.zeros(first.shape, dtype)
    for offset in range(_CANDIDATES):
        index = first + offset
        position = bin_start + quotient((index + 0.5) * size, divisor)
        counts, low, high, fraction = interpolate(position, length)
        counts &= index < count
        weight = jnp.where(low == cell, 1 - fraction, 0) + jnp.where(high == cell, fraction, 0)
        weights += jnp.where(counts, weight, 0)
    return jnp.where(valid[:, None, None], weights / divisor, 0)


def pool_adaptive(
    features: Sequence[Array],
    boxes: Array,
    levels: Array,
    scales: Sequence[float],
    extents: Array,
    valid: Array,
    *,
    output_size: tuple[int, int],
    aligned: bool,
) -> Array:
    """`multiscale_roi_align` with adaptive sampling: ``[R, PH, PW, C]`` in the dtype of ``features``.

    Multiplies every region with whole maps, level after level. This is cheap for few channels, such as masks; for a
    detector's features, a fixed number of samples reads far less.
    """
    dtype = float_dtype(features[0], boxes)
    pooled = jnp.zeros((boxes.shape[0], *output_size, features[0].shape[-1]), float_dtype(features[0]))
    for level, (map_, scale) in enumerate(zip(features, scales, strict=True)):
        y, x = adaptive_weights(
            boxes,
            jnp.asarray(scale, dtype),
            extents[level],
            valid & (levels == level),
            shape=(map_.shape[0], map_.shape[1]),
            output_size=output_size,
            aligned=aligned,
        )
        pooled += pool_dense(mask_to_extent(map_, extents[level]), y, x)
    return pooled.astype(features[0].dtype)


def mask_to_extent(map_: Array, extent: Array) -> Array:
    """``map_ [H, W, C]`` in at least float32, with zeros outside of its extent, where it may contain NaN."""
    height, width, _ = map_.shape
    inside = (jnp.arange(height)[:, None, None] < extent[0]) & (jnp.arange(width)[None, :, None] < extent[1])
    return jnp.where(inside, map_, 0).astype(float_dtype(map_))


def pool_dense(map_: Array, y: Array, x: Array) -> Array:
    """``[R, PH, PW, C]`` from ``map_ [H, W, C]`` and weights ``[R, PH, H]`` and ``[R, PW, W]``."""

    def one(y: Array, x: Array) -> Array:
        rows = jnp.einsum("ph,hwc->pwc", y, map_, precision=lax.Precision.HIGHEST)
        return jnp.einsum("qw,pwc->pqc", x, rows, precision=lax.Precision.HIGHEST)

    return map_regions(one, y.astype(map_.dtype), x.astype(map_.dtype), y.shape[1] * map_.shape[1] * map_.shape[2])

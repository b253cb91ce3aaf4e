"""Where RoIAlign samples a feature map, and with what weights: shared by the algorithms of every platform.

Axes: R regions, L levels, P output bins along one side, S sampling points a bin. RoIAlign is separable: a bin's
value is a weighted sum over (rows of the samples) x (columns of the samples), so each side is described on its own.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxdet.ops.boxes import float_dtype
from jaxdet.ops.exact import quotient, rounded


class AxisSamples(NamedTuple):
    """Linear interpolation along one side: each sample reads two neighbours, inside the map even at weight 0.

    The weights include the 1/S of the average, and are 0 for samples that count as outside and regions not valid.
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
      scales: ``[R]``, map cells a pixel at the region's level.
      extents: ``[R, 2]`` int, (height, width) of the part of the region's level that counts.
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
    """``boxes [R, 4]`` in cells of their maps; 0 where they are not valid."""
    dtype = float_dtype(boxes, scales)
    boxes = jnp.where(valid[:, None], boxes.astype(dtype), 0)
    return rounded(boxes * scales.astype(dtype)[:, None]) - (0.5 if aligned else 0.0)


def bin_size_of(start: Array, end: Array, bins: int, aligned: bool) -> Array:
    """How long a bin is, ``[R]``, between the ends of a side in cells."""
    span = end - start
    return quotient(span if aligned else jnp.maximum(span, 1), bins)


def interpolate(position: Array, length: Array) -> tuple[Array, Array, Array, Array]:
    """Where samples read a side that is ``length`` cells long (of a shape that broadcasts).

    Returns:
      Whether a sample counts (one more than a cell outside does not, nor does NaN); the cells before and behind it,
      int32; and how far it is on the way from one to the other.
    """
    last = jnp.maximum(length, 1).astype(jnp.int32) - 1
    counts = (position >= -1) & (position <= length.astype(position.dtype))  # false for NaN
    position = jnp.clip(jnp.where(counts, position, 0), 0, last.astype(position.dtype))
    low = position.astype(jnp.int32)
    return counts, low, jnp.minimum(low + 1, last), position - low.astype(position.dtype)


def weights_of_cells(samples: AxisSamples, cells: Array) -> Array:
    """What the map's ``cells [R, N]`` (or ``[1, N]``) weigh in each bin, ``[R, P, N]``."""
    cell = cells[:, None, None, :]  # [R, 1, 1, N]
    weights = jnp.where(samples.low[..., None] == cell, samples.weight_low[..., None], 0)
    weights += jnp.where(samples.high[..., None] == cell, samples.weight_high[..., None], 0)
    return jnp.sum(weights, axis=2)


def _axis_samples(
    start: Array, end: Array, length: Array, valid: Array, bins: int, ratio: int, aligned: bool
) -> AxisSamples:
    """Samples between ``start`` and ``end`` (``[R]``, in cells) of a side that is ``length [R]`` cells long."""
    dtype = start.dtype
    bin_size = bin_size_of(start, end, bins, aligned)[:, None, None]  # [R, 1, 1]
    bin_index = jnp.arange(bins, dtype=dtype)[None, :, None]
    sample_index = jnp.arange(ratio, dtype=dtype)[None, None, :] + 0.5
    # The order of torchvision's C++: bin corner first, then the sample's product before its quotient.
    position = start[:, None, None] + rounded(bin_index * bin_size)  # [R, P, 1]
    position = position + quotient(sample_index * bin_size, ratio)  # [R, P, S]
    counts, low, high, fraction = interpolate(position, length[:, None, None])
    counts &= valid[:, None, None]
    return AxisSamples(low, high, jnp.where(counts, (1 - fraction) / ratio, 0), jnp.where(counts, fraction / ratio, 0))

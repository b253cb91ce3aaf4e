"""RoIPool (Girshick 2015), numerically equivalent to ``torchvision.ops.roi_pool``.

Axes: H W C a feature map of one image, R regions, PH and PW output bins. ``vmap`` over a batch.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

from jaxdet.ops.boxes import float_dtype
from jaxdet.ops.exact import quotient, rounded
from jaxdet.ops.map_regions import map_regions
from jaxdet.ops.range_max import Largest, largest_in, range_table

_FAR = 2.0**24  # cells; integers up to this are exact in float32


def roi_pool(
    input: Array,
    boxes: Array,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    *,
    valid: Array | None = None,
    extent: Array | None = None,
) -> Array:
    """The maximum of each bin of each region.

    Boxes are rounded to whole cells (halves away from zero) and include both ends. Bins overlap if they do not divide
    the region evenly.

    Args:
      input: ``[H, W, C]``.
      boxes: ``[R, 4]`` xyxy pixels.
      output_size: (PH, PW), or one number for both.
      spatial_scale: map cells per pixel, such as 1/16.
      valid: ``[R]`` bool. Invalid regions give zeros and receive no gradient.
      extent: ``[2]`` int, the (height, width) of the part of the map that is not padding, where bins end. By default
        the whole map.

    Returns:
      ``[R, PH, PW, C]`` in the dtype of ``input``. Bins without a cell of the map, or with NaN only, are 0. The
      gradient goes to the first maximum, row by row; the boxes receive none.
    """
    size, valid, extent = prepare("roi_pool", input, boxes, output_size, valid, extent)
    height, width, channels = input.shape
    sides = whole_bins(boxes, spatial_scale, size, 1)
    rows, columns = ([jnp.clip(end, 0, limit) for end in side] for side, limit in zip(sides, extent, strict=True))
    # The positions of the maxima have no gradient; reading the values has.
    map_ = lax.stop_gradient(jnp.where(jnp.isnan(input), -jnp.inf, input)).astype(float_dtype(input))
    cells = jnp.arange(height * width, dtype=jnp.int32).reshape(height, width, 1)
    by_column = Largest(map_.swapaxes(0, 1), jnp.broadcast_to(cells, input.shape).swapaxes(0, 1))
    table = range_table(by_column)  # [K, W, H, C]

    def one(rows: Array, columns: Array) -> Largest:
        across = largest_in(table, *columns)  # [PW, H, C]
        down = range_table(Largest(across.value.swapaxes(0, 1), across.place.swapaxes(0, 1)))
        return largest_in(down, *rows)  # [PH, PW, C]

    numbers = 2 * size[1] * height * channels * height.bit_length()
    largest = map_regions(one, jnp.stack(rows, axis=1), jnp.stack(columns, axis=1), numbers)
    some_rows, some_columns = (end > start for start, end in (rows, columns))
    found = (some_rows[:, :, None] & some_columns[:, None, :] & valid[:, None, None])[..., None]
    found &= largest.value > -jnp.inf
    wide = input.astype(float_dtype(input)).reshape(height * width, channels)  # gradients are summed in this dtype
    read = wide[largest.place, jnp.arange(channels)[None, None, None]]
    return jnp.where(found, read, 0).astype(input.dtype)


def prepare(
    name: str,
    input: Array,
    boxes: Array,
    output_size: int | tuple[int, int],
    valid: Array | None,
    extent: Array | None,
) -> tuple[tuple[int, int], Array, Array]:
    """Checks the arguments and returns (PH, PW), ``valid [R]`` and ``extent [2]``. Boxes with NaN are not valid."""
    size = (output_size, output_size) if isinstance(output_size, int) else output_size
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"{name}: output_size must be one or two numbers of at least 1, got {output_size}.")
    if input.ndim != 3 or boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(
            f"{name}: expected a map [H, W, C] and boxes [R, 4], got {input.shape} and {boxes.shape}; "
            "for a batch, use vmap."
        )
    not_nan = ~jnp.isnan(boxes).any(axis=1)
    valid = not_nan if valid is None else not_nan & valid
    extent = jnp.array(input.shape[:2], jnp.int32) if extent is None else jnp.asarray(extent)
    return size, valid, extent


def whole_bins(
    boxes: Array, spatial_scale: float, size: tuple[int, int], growth: int
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """The first and the last cell (exclusive) of each bin, ``[R, P]`` int32 each, along y and along x.

    The length of a region is the difference of its rounded ends plus ``growth``, and at least one cell.
    """
    dtype = float_dtype(boxes)
    ends = _round_half_away(rounded(lax.stop_gradient(boxes).astype(dtype) * jnp.asarray(spatial_scale, dtype)))
    ends = jnp.clip(jnp.where(jnp.isnan(ends), 0, ends), -_FAR, _FAR)

    def along(start: Array, end: Array, bins: int) -> tuple[Array, Array]:
        bin_size = quotient(jnp.maximum(end - start + growth, 1), bins)[:, None]
        number = jnp.arange(bins + 1, dtype=dtype)[None]
        first, behind = jnp.floor(number[:, :-1] * bin_size), jnp.ceil(number[:, 1:] * bin_size)
        return (start[:, None] + first).astype(jnp.int32), (start[:, None] + behind).astype(jnp.int32)

    return along(ends[:, 1], ends[:, 3], size[0]), along(ends[:, 0], ends[:, 2], size[1])


def cells_of(side: tuple[Array, Array], length: int, limit: Array) -> Array:
    """Whether each bin contains each cell, ``[R, P, length]`` bool; False from cell ``limit`` on."""
    cell = jnp.arange(length, dtype=jnp.int32)[None, None]
    first, behind = side
    return (cell >= first[..., None]) & (cell < behind[..., None]) & (cell < limit)


def _round_half_away(x: Array) -> Array:
    whole = jnp.trunc(x)
    return whole + jnp.where(jnp.abs(x - whole) >= 0.5, jnp.sign(x), 0)

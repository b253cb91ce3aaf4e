"""RoIPool (Girshick 2015) with the numbers of ``torchvision.ops.roi_pool``.

Axes: H W C a feature map of one image, R regions, PH and PW output bins. ``vmap`` over a batch.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

from jaxdet.ops.boxes import float_dtype
from jaxdet.ops.exact import quotient, rounded
from jaxdet.ops.range_max import Largest, largest_in, range_table
from jaxdet.ops.turns import in_turns

_FAR = 2.0**24  # cells; whole numbers up to there are exact in float32


def roi_pool(
    input: Array,
    boxes: Array,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    *,
    valid: Array | None = None,
    extent: Array | None = None,
) -> Array:
    """The largest value of each bin of each region.

    Boxes are rounded to whole cells, halves away from zero, and hold both of their ends. Bins overlap where they do not
    divide the region evenly.

    Args:
      input: ``[H, W, C]``.
      boxes: ``[R, 4]`` xyxy pixels.
      output_size: (PH, PW), or one number for both.
      spatial_scale: map cells a pixel, such as 1/16.
      valid: ``[R]`` bool. The other regions give zeros and receive no gradient, whatever their boxes hold.
      extent: ``[2]`` int, the (height, width) of the map that counts: bins end there, and what lies beyond may hold
        anything. The whole map if not given.

    Returns:
      ``[R, PH, PW, C]`` in the dtype of ``input``; a bin that holds no cell of the map, or nothing but NaN, is 0. The
      gradient goes to the first largest cell, row by row, and none to the boxes.
    """
    size, valid, extent = prepare("roi_pool", input, boxes, output_size, valid, extent)
    height, width, channels = input.shape
    sides = whole_bins(boxes, spatial_scale, size, 1)
    rows, columns = ([jnp.clip(end, 0, limit) for end in side] for side, limit in zip(sides, extent, strict=True))
    # Where the largest values are has no gradient; reading them has.
    map_ = lax.stop_gradient(jnp.where(jnp.isnan(input), -jnp.inf, input)).astype(float_dtype(input))
    cells = jnp.arange(height * width, dtype=jnp.int32).reshape(height, width, 1)
    by_column = Largest(map_.swapaxes(0, 1), jnp.broadcast_to(cells, input.shape).swapaxes(0, 1))
    table = range_table(by_column)  # [K, W, H, C]

    def one(rows: Array, columns: Array) -> Largest:
        across = largest_in(table, *columns)  # [PW, H, C]
        down = range_table(Largest(across.value.swapaxes(0, 1), across.place.swapaxes(0, 1)))
        return largest_in(down, *rows)  # [PH, PW, C]

    numbers = 2 * size[1] * height * channels * height.bit_length()
    largest = in_turns(one, jnp.stack(rows, axis=1), jnp.stack(columns, axis=1), numbers)
    some_rows, some_columns = (end > start for start, end in (rows, columns))
    found = (some_rows[:, :, None] & some_columns[:, None, :] & valid[:, None, None])[..., None]
    found &= largest.value > -jnp.inf
    wide = input.astype(float_dtype(input)).reshape(height * width, channels)  # in what gradients are summed
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
    """(PH, PW), ``valid [R]`` and ``extent [2]``, from what may be left out. A box with NaN is not valid."""
    size = (output_size, output_size) if isinstance(output_size, int) else output_size
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"{name}: output_size must be one or two numbers of at least 1, got {output_size}.")
    if input.ndim != 3 or boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(
            f"{name}: expected a map [H, W, C] and boxes [R, 4], got {input.shape} and {boxes.shape}; "
            "for a batch, use vmap."
        )
    known = ~jnp.isnan(boxes).any(axis=1)
    valid = known if valid is None else known & valid
    extent = jnp.array(input.shape[:2], jnp.int32) if extent is None else jnp.asarray(extent)
    return size, valid, extent


def whole_bins(
    boxes: Array, spatial_scale: float, size: tuple[int, int], growth: int
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """First cell of each bin and the one behind its last, ``[R, P]`` int32 each, along y and along x.

    A region is ``growth`` longer than the difference of its rounded ends, and at least one cell long.
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
    """Which cells each bin holds, ``[R, P, length]`` bool; none from ``limit`` on."""
    cell = jnp.arange(length, dtype=jnp.int32)[None, None]
    first, behind = side
    return (cell >= first[..., None]) & (cell < behind[..., None]) & (cell < limit)


def _round_half_away(x: Array) -> Array:
    whole = jnp.trunc(x)
    return whole + jnp.where(jnp.abs(x - whole) >= 0.5, jnp.sign(x), 0)

"""RoIAlign by gathering rows of a table: the algorithm for CPUs and GPUs, and for very long regions on TPUs.

Axes: R regions, T table rows, C channels, PH and PW output bins, S samples per bin and side.
The table contains all levels one after another, channels last, so that each row that is read is contiguous.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxdet.ops.roi.samples import AxisSamples

_REGIONS_PER_STEP = 128  # in pooling on a CPU, at most
_REGIONS_PER_CHUNK = 16  # in the gradient on a CPU: 16 x 784 rows of 64 to 256 channels stay in its caches


def pool_by_gather(table: Array, y: AxisSamples, x: AxisSamples, offset: Array, stride: Array) -> Array:
    """Pools every region.

    Args:
      table: ``[T, C]``; the cell (row, column) of a region's level is at ``offset + row * stride + column``.
      y: samples ``[R, PH, S]``.
      x: samples ``[R, PW, S]``.
      offset: ``[R]`` int32.
      stride: ``[R]`` int32.

    Returns:
      ``[R, PH, PW, C]`` in the dtype of the weights.
    """
    # One fused loop over 4 S^2 reads, which stores nothing of 4 S^2 times the output's size.
    pooled = jnp.zeros((*y.low.shape[:2], x.low.shape[1], table.shape[1]), y.weight_low.dtype)
    for rows, weights in _corners(y, x, offset, stride):
        pooled += weights[..., None] * table.at[rows].get(mode="promise_in_bounds").astype(pooled.dtype)
    return pooled


def pool_few(table: Array, y: AxisSamples, x: AxisSamples, offset: Array, stride: Array) -> Array:
    """`pool_by_gather` for few regions, by one gather: it stores what it reads, 4 S^2 times the output's size."""
    rows, weights = _all_corners(y, x, offset, stride)
    read = table.at[rows].get(mode="promise_in_bounds").astype(weights.dtype)  # [R, PH, PW, 4 S^2, C]
    return jnp.sum(weights[..., None] * read, axis=-2)


def pool_in_chunks(table: Array, y: AxisSamples, x: AxisSamples, offset: Array, stride: Array) -> Array:
    """`pool_by_gather` in chunks of regions: two to three times as fast in a detector on a CPU.

    The loop prevents fusing the gathers with a following reshape to ``[R, PH * PW * C]``, as in box heads, which would
    no longer be vectorised over channels.
    """
    steps = -(-offset.shape[0] // _REGIONS_PER_STEP)
    chunks = split_regions((y, x, offset, stride), -(-offset.shape[0] // steps))  # chunks of equal size need no padding
    pooled = jax.lax.map(lambda chunk: pool_by_gather(table, *chunk), chunks)
    return pooled.reshape(-1, *pooled.shape[2:])[: offset.shape[0]]


def scatter_at_once(grad: Array, y: AxisSamples, x: AxisSamples, offset: Array, stride: Array, height: int) -> Array:
    """The gradient of ``pool_by_gather`` with respect to its table, ``[height, C]``, from ``grad [R, PH, PW, C]``."""
    table = jnp.zeros((height, grad.shape[-1]), grad.dtype)
    for rows, weights in _corners(y, x, offset, stride):
        table = table.at[rows].add(weights[..., None] * grad, mode="promise_in_bounds")
    return table


def scatter_few(table: Array, grad: Array, y: AxisSamples, x: AxisSamples, offset: Array, stride: Array) -> Array:
    """The same for few regions, added to ``table [T, C]`` by one scatter."""
    rows, weights = _all_corners(y, x, offset, stride)
    update = weights[..., None] * grad[..., None, :]  # [R, PH, PW, 4 S^2, C]
    return table.at[rows].add(update, mode="promise_in_bounds")


def scatter_in_chunks(grad: Array, y: AxisSamples, x: AxisSamples, offset: Array, stride: Array, height: int) -> Array:
    """The same in chunks of regions: five times faster than ``scatter_at_once`` on a CPU."""

    def add_chunk(table: Array, chunk: tuple) -> tuple[Array, None]:
        return scatter_few(table, *chunk), None

    table = jnp.zeros((height, grad.shape[-1]), grad.dtype)
    chunks = split_regions((grad, y, x, offset, stride), _REGIONS_PER_CHUNK)
    return jax.lax.scan(add_chunk, table, chunks)[0]


def split_regions(tree: Any, size: int) -> Any:
    """Splits the leading axis R of every leaf into ``[ceil(R / size), size]``, padded with zeros (zero weights)."""

    def split(leaf: Array) -> Array:
        missing = -leaf.shape[0] % size
        leaf = jnp.pad(leaf, [(0, missing)] + [(0, 0)] * (leaf.ndim - 1))
        return leaf.reshape(-1, size, *leaf.shape[1:])

    return jax.tree.map(split, tree)


def _all_corners(y: AxisSamples, x: AxisSamples, offset: Array, stride: Array) -> tuple[Array, Array]:
    """The 4 S^2 reads of every bin in one array: table rows ``[R, PH, PW, 4 S^2]`` int32, and weights."""
    rows, weights = zip(*_corners(y, x, offset, stride), strict=True)
    return jnp.stack(rows, axis=-1), jnp.stack(weights, axis=-1)


def _corners(y: AxisSamples, x: AxisSamples, offset: Array, stride: Array) -> Iterator[tuple[Array, Array]]:
    """The 4 S^2 reads of every bin: table rows ``[R, PH, PW]`` int32 and weights ``[R, PH, PW]``."""
    start, stride = offset[:, None, None], stride[:, None, None]
    tops = [(start + index * stride, weight) for index, weight in ((y.low, y.weight_low), (y.high, y.weight_high))]
    sides = [(x.low, x.weight_low), (x.high, x.weight_high)]
    for i in range(y.low.shape[2]):
        for row, row_weight in tops:
            for j in range(x.low.shape[2]):
                for column, column_weight in sides:
                    yield (
                        row[:, :, None, i] + column[:, None, :, j],
                        row_weight[:, :, None, i] * column_weight[:, None, :, j],
                    )

"""The largest value of any range along an axis, and where it is, by two reads of a sparse table.

The table holds, for every place and power of two, the largest of so many values from there on; a range is covered by
two of them that overlap.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax


class Largest(NamedTuple):
    """Values and the place that each came with; of equal values the first one's."""

    value: Array
    place: Array  # int32, of the same shape


def _first_larger(first: Largest, second: Largest) -> Largest:
    take = second.value > first.value
    return Largest(jnp.where(take, second.value, first.value), jnp.where(take, second.place, first.place))


def range_table(items: Largest) -> Largest:
    """``[K, N, ...]`` of items ``[N, ...]``: entry (k, n) is the largest of the 2^k items from n on.

    No value may be NaN.
    """
    levels, length = [items], items.value.shape[0]
    while 2 ** len(levels) <= length:
        step = 2 ** (len(levels) - 1)
        pad = ((0, step),) + ((0, 0),) * (items.value.ndim - 1)
        last = levels[-1]
        later = Largest(jnp.pad(last.value[step:], pad, constant_values=-jnp.inf), jnp.pad(last.place[step:], pad))
        levels.append(_first_larger(last, later))
    return Largest(jnp.stack([level.value for level in levels]), jnp.stack([level.place for level in levels]))


def largest_in(table: Largest, start: Array, end: Array) -> Largest:
    """The largest from ``start [P]`` to before ``end [P]``, ``[P, ...]``; of an empty range, anything."""
    count = table.value.shape[1]
    level = 31 - lax.clz(jnp.clip(end - start, 1, count).astype(jnp.int32))
    level = jnp.minimum(level, table.value.shape[0] - 1)
    left = jnp.clip(start, 0, count - 1)
    right = jnp.clip(end - jnp.left_shift(1, level), 0, count - 1)
    first, second = (Largest(table.value[level, at], table.place[level, at]) for at in (left, right))
    return _first_larger(first, second)

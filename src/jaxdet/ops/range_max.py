"""Range maximum queries along an axis by a sparse table: the largest value of any range and its position.

The table holds the maximum of the 2^k values from every position on. Two overlapping entries cover any range.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax


class Largest(NamedTuple):
    """Values and their positions; of equal values, the first."""

    value: Array
    place: Array  # int32, of the same shape


def _first_larger(first: Largest, second: Largest) -> Largest:
    take = second.value > first.value
    return Largest(jnp.where(take, second.value, first.value), jnp.where(take, second.place, first.place))


def range_table(items: Largest) -> Largest:
    """The table ``[K, N, ...]`` of items ``[N, ...]``: entry (k, n) is the largest of the 2^k items from n on.

    Values must not be NaN.
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
    """The largest items ``[P, ...]`` of the ranges ``start [P]`` to ``end [P]`` (exclusive); undefined if empty."""
    count = table.value.shape[1]
    level = 31 - lax.clz(jnp.clip(end - start, 1, count).astype(jnp.int32))
    level = jnp.minimum(level, table.value.shape[0] - 1)
    left = jnp.clip(start, 0, count - 1)
    right = jnp.clip(end - jnp.left_shift(1, level), 0, count - 1)
    first, second = (Largest(table.value[level, at], table.place[level, at]) for at in (left, right))
    return _first_larger(first, second)

"""The best pairs of an anchor and a class, without ranking all of them."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Pairs(NamedTuple):
    """By decreasing value; of equal values the lower row, then the lower column, goes first."""

    values: Array  # [M]; -inf where there is no further pair
    rows: Array  # [M] int32
    columns: Array  # [M] int32


def top_pairs(values: Array, count: int, *, valid: Array | None = None) -> Pairs:
    """The largest elements of a matrix: ``lax.top_k`` of it flattened, several times faster for many rows.

    Only the rows that are best by their own maximum are ranked. That is exact. Let ``(r, c)`` lie in a row that is not
    among the ``count`` best. Each of those ``count`` rows has a maximum that is greater than that of r, and so than
    the value at ``(r, c)``, or equal to it in a row that stands before r, and so before ``(r, c)``. These are
    ``count`` elements that rank higher.

    Args:
      values: ``[N, K]``.
      count: M, or N * K if that is less.
      valid: ``[N]`` bool; the other rows may hold anything, and their values count as -inf.

    Returns:
      ``Pairs``.
    """
    size, width = values.shape
    valid = jnp.ones(size, bool) if valid is None else valid
    best = jnp.where(valid, values.max(axis=1), -jnp.inf)  # [N]
    _, rows = jax.lax.top_k(best, min(count, size))
    rows = jnp.sort(rows)  # so that ties are between elements in their own order
    chosen = jnp.where(valid[rows][:, None], values[rows], -jnp.inf)
    top, index = jax.lax.top_k(chosen.reshape(-1), min(count, chosen.size))
    return Pairs(top, rows[index // width].astype(jnp.int32), (index % width).astype(jnp.int32))

"""Top-k over (anchor, class) pairs."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Pairs(NamedTuple):
    """Elements of a matrix by decreasing value; ties by the lower row, then the lower column."""

    values: Array  # [M]; -inf: no further pair
    rows: Array  # [M] int32
    columns: Array  # [M] int32


def top_pairs(values: Array, count: int, *, valid: Array | None = None) -> Pairs:
    """The largest elements of a matrix: ``lax.top_k`` of the flattened matrix, several times faster for many rows.

    Only the ``count`` rows with the largest maxima are ranked. This is exact: if row r is not among them, each of
    their maxima is greater than all elements of r, or equal to the maximum of r in an earlier row. So there are
    ``count`` elements that rank before any element of r.

    Args:
      values: ``[N, K]``.
      count: M, or N * K if that is less.
      valid: ``[N]`` bool; values of invalid rows count as -inf.

    Returns:
      ``Pairs``.
    """
    size, width = values.shape
    valid = jnp.ones(size, bool) if valid is None else valid
    best = jnp.where(valid, values.max(axis=1), -jnp.inf)  # [N]
    _, rows = jax.lax.top_k(best, min(count, size))
    rows = jnp.sort(rows)  # ties are broken in the order of the matrix
    chosen = jnp.where(valid[rows][:, None], values[rows], -jnp.inf)
    top, index = jax.lax.top_k(chosen.reshape(-1), min(count, chosen.size))
    return Pairs(top, rows[index // width].astype(jnp.int32), (index % width).astype(jnp.int32))

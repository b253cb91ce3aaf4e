"""A predicate that stays scalar under ``vmap``."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


@jax.custom_batching.custom_vmap
def any_in_batch(mask: Array) -> Array:
    """Whether any element of ``mask`` is true, also over axes mapped by ``vmap``: a scalar that is never batched.

    With a batched predicate, ``vmap`` of a ``while_loop`` selects between old and new values of the whole carry in
    every iteration, and ``vmap`` of a ``cond`` runs both branches. With this predicate, a loop runs for all batch
    elements until the last one is done, and a branch is taken for all if one element needs it. This is correct only if
    further iterations, or the branch, do not change the results of the other elements.
    """
    return jnp.any(mask)


@any_in_batch.def_vmap
def _any_over_mapped_axis(axis_size: int, in_batched: list[bool], mask: Array) -> tuple[Array, bool]:
    del axis_size, in_batched
    return any_in_batch(mask), False  # not jnp.any: this handles an outer vmap, too

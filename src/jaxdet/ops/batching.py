"""One predicate for a whole batch, so that control flow stays scalar under ``vmap``."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


@jax.custom_batching.custom_vmap
def any_in_batch(mask: Array) -> Array:
    """Whether any element of ``mask`` is true, over every mapped axis too: a scalar that ``vmap`` does not batch.

    ``vmap`` of a ``while_loop`` or ``cond`` whose predicate is batched selects between old and new values of
    the whole carry every turn, or runs both branches. With this predicate the loop runs, for all, until the last
    one is done, and the branch is taken, for all, when one needs it. That is right only where a further
    turn, or the other branch, leaves the result of those that did not ask for it unchanged.
    """
    return jnp.any(mask)


@any_in_batch.def_vmap
def _any_over_mapped_axis(axis_size: int, in_batched: list[bool], mask: Array) -> tuple[Array, bool]:
    del axis_size, in_batched
    return any_in_batch(mask), False  # called again, not jnp.any: an outer vmap is to be folded in too

"""Mapping a function over regions with bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
from jax import Array, lax

Result = TypeVar("Result")

_NUMBERS_PER_STEP = 2**24


def map_regions(one: Callable[[Array, Array], Result], y: Array, x: Array, numbers: int) -> Result:
    """``one(y[r], x[r])`` for every region r, in steps that bound the memory.

    Args:
        numbers: the size of the intermediate results of one region.
    """
    regions_per_step = max(_NUMBERS_PER_STEP // max(numbers, 1), 1)
    if regions_per_step >= y.shape[0]:
        return jax.vmap(one)(y, x)
    return lax.map(lambda pair: one(*pair), (y, x), batch_size=regions_per_step)

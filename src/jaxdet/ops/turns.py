"""Work on many regions that is cut into turns where its intermediate results would be large."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
from jax import Array, lax

Result = TypeVar("Result")

_NUMBERS_A_TURN = 2**24


def in_turns(one: Callable[[Array, Array], Result], y: Array, x: Array, numbers: int) -> Result:
    """``one(y[r], x[r])`` for every region, as many at a time as intermediate results of ``numbers`` each permit."""
    together = max(_NUMBERS_A_TURN // max(numbers, 1), 1)
    if together >= y.shape[0]:
        return jax.vmap(one)(y, x)
    return lax.map(lambda pair: one(*pair), (y, x), batch_size=together)

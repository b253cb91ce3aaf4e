"""The largest batch whose step fits in a chip's memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

_TRIES = 4  # compilations beyond the two that give a line


@dataclass(frozen=True)
class Largest:
    """The largest batch found to fit, in images a chip.

    batch: 0 where not even one image fits.
    compiled: every batch that was compiled, with the bytes that its step needs; None: it does not fit.
    next_needs: bytes of one image more, on the line through what was compiled; None where that was compiled, too.
    """

    batch: int
    compiled: dict[int, float | None]
    next_needs: float | None


def largest_batch(needs: Callable[[int], float | None], batch: int, limit: float) -> Largest:
    """Searches with few compilations: a line through two of them, then what it promises.

    Near the limit the compiler trades time for memory and fits more than the line says, so the result is a batch that
    was compiled and fits, while one that is larger may, too, unless it was compiled and does not.

    Args:
        needs: compiles a batch and says how many bytes it needs, None if that is more than there are.
        batch: to begin with.
        limit: bytes of the chip's memory.
    """
    compiled = {batch: needs(batch)}
    while compiled[batch] is None and batch > 1:
        batch = max(1, batch // 2)
        compiled[batch] = needs(batch)
    if compiled[batch] is None:
        return Largest(0, compiled, None)
    other = batch // 2 if batch > 1 else 2
    compiled[other] = needs(other)
    for _ in range(_TRIES):
        line = _line(compiled)
        fitting = max(size for size, need in compiled.items() if need is not None)
        failing = min((size for size, need in compiled.items() if need is None), default=None)
        guess = fitting + 1 if line is None else max(fitting, math.floor((limit - line[0]) / line[1]))
        if failing is not None:
            guess = min(guess, failing - 1)
        if guess <= fitting:
            break
        compiled[guess] = needs(guess)
    line = _line(compiled)
    fitting = max(size for size, need in compiled.items() if need is not None)
    more = None if fitting + 1 in compiled or line is None else line[0] + line[1] * (fitting + 1)
    return Largest(fitting, compiled, more)


def _line(compiled: dict[int, float | None]) -> tuple[float, float] | None:
    """(bytes without an image, bytes an image) through the two largest batches that fit."""
    fitting = sorted((size, need) for size, need in compiled.items() if need is not None)[-2:]
    if len(fitting) < 2 or fitting[1][1] <= fitting[0][1]:
        return None
    (low, less), (high, more) = fitting
    slope = (more - less) / (high - low)
    return less - slope * low, slope

"""The largest batch whose step fits in a chip's memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

_MORE_COMPILATIONS = 4  # at most, after the two that determine a line


@dataclass(frozen=True)
class Largest:
    """The result of `largest_batch`. Batches are in images per chip.

    batch: the largest batch that was compiled and fits; 0 if not even one image fits.
    compiled: the bytes that each compiled batch needs; None for batches that do not fit.
    next_needs: the bytes of ``batch + 1``, by extrapolation; None if that batch was compiled.
    """

    batch: int
    compiled: dict[int, float | None]
    next_needs: float | None


def largest_batch(needs: Callable[[int], float | None], batch: int, limit: float) -> Largest:
    """Searches for the largest batch with few compilations, by linear extrapolation of the memory.

    Near the limit the compiler trades time for memory and needs less than the extrapolation. A batch larger than the
    result may therefore fit as well, unless it was compiled and does not fit.

    Args:
        needs: compiles a batch and returns the bytes that it needs; None if it does not fit.
        batch: the first batch to compile.
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
    for _ in range(_MORE_COMPILATIONS):
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
    """(bytes without images, bytes per image), from the two largest batches that fit; None if they do not grow."""
    fitting = sorted((size, need) for size, need in compiled.items() if need is not None)[-2:]
    if len(fitting) < 2 or fitting[1][1] <= fitting[0][1]:
        return None
    (low, less), (high, more) = fitting
    slope = (more - less) / (high - low)
    return less - slope * low, slope

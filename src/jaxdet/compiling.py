"""Announces each compilation, which takes seconds to minutes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable

from tqdm.auto import tqdm

Say = Callable[[str], object]


def say_beside_bars(line: str) -> None:
    """Prints a line on standard error, above progress bars that are shown there."""
    tqdm.write(line, file=sys.stderr)


class Compilations:
    """Which programs of a step have been used in this process.

    Args:
        purpose: what the step is for, as the line names it; empty: nothing is named.
    """

    def __init__(self, purpose: str = "") -> None:
        self._purpose = f" for {purpose}" if purpose else ""
        self._known: set[Hashable] = set()

    def announce(self, program: Hashable, canvas: tuple[int, ...], say: Say | None) -> None:
        """Says ``compiling 288x320 ...`` where a program is new: of this model and batch, on this canvas.

        Args:
            program: identifies it among those of the same canvas; canvas: (height, width).
            say: is called with the line; None: nothing is said.
        """
        key = (program, canvas)
        if key in self._known:
            return
        self._known.add(key)
        if say is not None:
            say(f"compiling {canvas[0]}x{canvas[1]}{self._purpose} ...")

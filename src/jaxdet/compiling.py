"""Messages before compilations, which take seconds to minutes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable

from tqdm.auto import tqdm

Say = Callable[[str], object]


def say_beside_bars(line: str) -> None:
    """Prints a line on standard error without breaking progress bars."""
    tqdm.write(line, file=sys.stderr)


class Compilations:
    """The compiled programs of a step in this process.

    Args:
        purpose: the purpose of the step in the message, as in ``compiling 288x320 for evaluation ...``; may be empty.
    """

    def __init__(self, purpose: str = "") -> None:
        self._purpose = f" for {purpose}" if purpose else ""
        self._known: set[Hashable] = set()

    def announce(self, program: Hashable, canvas: tuple[int, ...], say: Say | None) -> None:
        """Says ``compiling 288x320 ...`` the first time that a program is used with this canvas.

        Args:
            program: identifies the model and batch size; canvas: (height, width).
            say: called with the message; None: there is no message.
        """
        key = (program, canvas)
        if key in self._known:
            return
        self._known.add(key)
        if say is not None:
            say(f"compiling {canvas[0]}x{canvas[1]}{self._purpose} ...")

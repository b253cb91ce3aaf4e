"""The one exception of the readers, and how its line is put together."""

from __future__ import annotations

import os

SAVE_LINE = 'torch.save(model.state_dict(), "weights.pth")'


class WeightsError(ValueError):
    """A weights file that cannot be read: one line with the file, what is wrong with it, and what to do."""


def refuse(file: str | os.PathLike[str], wrong: str, remedy: str) -> WeightsError:
    """The error to raise. Names from inside the file may hold line breaks, so they are flattened."""
    return WeightsError(" ".join(f"{os.fspath(file)}: {wrong}; {remedy}".splitlines()))

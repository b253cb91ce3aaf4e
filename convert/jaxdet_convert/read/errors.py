"""The exception of the readers."""

from __future__ import annotations

import os

SAVE_LINE = 'torch.save(model.state_dict(), "weights.pth")'


class WeightsError(ValueError):
    """A weights file cannot be read. The message is one line with the file, the problem, and what to do."""


def refuse(file: str | os.PathLike[str], wrong: str, remedy: str) -> WeightsError:
    """The error to raise. Line breaks, which names in the file may contain, are replaced by spaces."""
    return WeightsError(" ".join(f"{os.fspath(file)}: {wrong}; {remedy}".splitlines()))

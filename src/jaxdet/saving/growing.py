"""Files that are appended to during a run: metrics and TensorBoard's events.

Files in buckets cannot be appended to. They are kept locally and uploaded as a whole, at most once a minute and at the
end.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from jaxdet.paths import is_remote, to_path, write_text

_SECONDS = 60


class Lines:
    """A text file to which lines are appended.

    Args:
        path: the file, which is overwritten; lines: its initial lines.
    """

    def __init__(self, path: Path, lines: Iterable[str]) -> None:
        self._path, self._written = path, time.monotonic()
        self._lines = [f"{line}\n" for line in lines]
        write_text(path, "".join(self._lines))
        self._file = None if is_remote(path) else path.open("a")

    def add(self, line: str) -> None:
        """Appends a line."""
        if self._file is None:
            self._lines.append(f"{line}\n")
        else:
            self._file.write(f"{line}\n")

    def flush(self, *, now: bool = False) -> None:
        """Writes all lines to disk; to a bucket only after the interval, or with ``now``."""
        if self._file is not None:
            self._file.flush()
        elif now or time.monotonic() - self._written > _SECONDS:
            self._path.write_text("".join(self._lines))
            self._written = time.monotonic()

    def close(self) -> None:
        """Closes the file."""
        self.flush(now=True)
        if self._file is not None:
            self._file.close()


class Board:
    """TensorBoard's curves in a folder. Points after step ``start`` are removed."""

    def __init__(self, folder: Path, start: int) -> None:
        from tensorboardX import SummaryWriter  # imports PyTorch if it is installed

        self._folder, self._written = folder, time.monotonic()
        self._here = tempfile.TemporaryDirectory() if is_remote(folder) else None
        self._writer = SummaryWriter(str(folder) if self._here is None else self._here.name, purge_step=start + 1)

    def add(self, name: str, value: float, step: int) -> None:
        """Adds a point."""
        self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """Writes all points to disk; to a bucket only after the interval."""
        self._writer.flush()
        if time.monotonic() - self._written > _SECONDS:
            self._upload()

    def close(self) -> None:
        """Closes the files."""
        self._writer.close()
        self._upload()
        if self._here is not None:
            self._here.cleanup()

    def _upload(self) -> None:
        if self._here is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            for file in Path(self._here.name).iterdir():
                to_path(self._folder / file.name).write_bytes(file.read_bytes())
        self._written = time.monotonic()

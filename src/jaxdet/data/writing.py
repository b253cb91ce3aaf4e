"""Writing text that is there whole or not at all."""

from __future__ import annotations

from jaxdet.paths import PathLike, write_whole


def write_text(path: PathLike, text: str) -> None:
    """Writes a file as UTF-8, which appears whole or not at all."""
    write_whole(path, text.encode())

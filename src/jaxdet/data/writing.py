"""Writing files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from jaxdet.paths import is_remote


def write_text(path: Path, text: str) -> None:
    """Writes a file as UTF-8, which appears whole or not at all: beside its place, and renames it."""
    if is_remote(path):  # a bucket shows a file once it is closed
        path.write_text(text, encoding="utf-8")
        return
    unfinished = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise

"""Paths of files and folders that lie here or, as URLs (``gs://bucket/run``), in a bucket."""

from __future__ import annotations

import os
import pathlib
from typing import cast

from etils import epath

PathLike = str | os.PathLike[str]


def is_remote(path: PathLike) -> bool:
    """Whether a path is a URL; files there cannot be appended to, and appear whole once they are closed."""
    return "://" in os.fspath(path)


def to_path(path: PathLike) -> pathlib.Path:
    """A path to read and write by `pathlib`'s methods: its own class, or of a URL that of etils, which Orbax uses."""
    return cast(pathlib.Path, epath.Path(path)) if is_remote(path) else pathlib.Path(path)

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


def write_whole(path: PathLike, content: bytes) -> None:
    """Writes a file, which appears whole or not at all."""
    place = to_path(path)
    if is_remote(place):
        place.write_bytes(content)
        return
    unfinished = place.with_name(f".{os.getpid()}.{place.name}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(place)
    finally:
        unfinished.unlink(missing_ok=True)


def write_text(path: PathLike, text: str) -> None:
    """Writes a file as UTF-8, which appears whole or not at all."""
    write_whole(path, text.encode())


class Listing:
    """Which files there are, for many questions; each folder of a bucket is listed once, and no file asked for."""

    def __init__(self) -> None:
        self._folders: dict[str, frozenset[str]] = {}

    def __contains__(self, path: str) -> bool:
        if not is_remote(path):
            return os.path.isfile(path)
        folder, _, name = path.rpartition("/")
        if folder not in self._folders:
            place = to_path(folder)
            self._folders[folder] = (
                frozenset(entry.name for entry in place.iterdir()) if place.is_dir() else frozenset()
            )
        return name in self._folders[folder]

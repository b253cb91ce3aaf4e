"""Paths of files and folders that lie here or, as URLs (``gs://bucket/run``), in a bucket."""

from __future__ import annotations

import json
import os
import pathlib
import re
from typing import Any, cast

from etils import epath

_NEWLINE = re.compile(r"\r\n|\r|\n")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

PathLike = str | os.PathLike[str]


def is_remote(path: PathLike) -> bool:
    """Whether a path is a URL; files there cannot be appended to, and appear whole once they are closed."""
    return "://" in os.fspath(path)


def to_path(path: PathLike) -> pathlib.Path:
    """A path to read and write by `pathlib`'s methods: its own class, or of a URL that of etils, which Orbax uses."""
    return cast(pathlib.Path, epath.Path(path)) if is_remote(path) else pathlib.Path(path)


def absolute(path: PathLike) -> pathlib.Path:
    """As `to_path`, but independent of the current folder, as Orbax asks for."""
    return to_path(path) if is_remote(path) else pathlib.Path(path).absolute()


def read_lines(path: PathLike) -> list[str]:
    """The lines of a UTF-8 text file, as editors number them: `str.splitlines` ends lines in other places, too.

    Raises:
        OSError, UnicodeDecodeError: it cannot be read, or is no such text.
    """
    text = to_path(path).read_bytes().decode("utf-8-sig")
    return _NEWLINE.split(text.removesuffix("\n")) if text else []


def parse_json(text: str | bytes) -> Any:
    """As `json.loads`, of text that can be written again.

    Raises:
        ValueError: and nothing else: it is not JSON, is nested too deeply, or holds half of a surrogate pair, which no
            message could show, other than in names of files that are not UTF-8 (U+DC80 to U+DCFF).
    """
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text))
    try:
        value = json.loads(text)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode(errors="surrogateescape")
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None
    except UnicodeEncodeError as error:
        raise ValueError(f"it holds half of a surrogate pair, {error.object[error.start]!a}") from None
    return value


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

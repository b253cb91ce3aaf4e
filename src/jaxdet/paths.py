"""Local paths and URLs of buckets (``gs://bucket/run``)."""

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
    """Whether a path is a URL. Files there cannot be appended to, and appear as a whole when they are closed."""
    return "://" in os.fspath(path)


def to_path(path: PathLike) -> pathlib.Path:
    """A path with `pathlib`'s methods: a `pathlib.Path`, or for a URL the class of etils, which Orbax uses."""
    return cast(pathlib.Path, epath.Path(path)) if is_remote(path) else pathlib.Path(path)


def absolute(path: PathLike) -> pathlib.Path:
    """The absolute `to_path`, as Orbax requires."""
    return to_path(path) if is_remote(path) else pathlib.Path(path).absolute()


def read_lines(path: PathLike) -> list[str]:
    """The lines of a UTF-8 text file, as editors number them; `str.splitlines` also splits at other characters.

    Raises:
        OSError, UnicodeDecodeError: the file cannot be read, or is not UTF-8 text.
    """
    text = to_path(path).read_bytes().decode("utf-8-sig")
    return _NEWLINE.split(text.removesuffix("\n")) if text else []


def parse_json(text: str | bytes) -> Any:
    """`json.loads` with ValueError as its only error.

    Raises:
        ValueError: the text is not JSON, is nested too deeply, or has a lone surrogate, which cannot be printed (except
            U+DC80 to U+DCFF, in names of files that are not UTF-8).
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
        raise ValueError(f"it has a lone surrogate, {error.object[error.start]!a}") from None
    return value


def write_whole(path: PathLike, content: bytes) -> None:
    """Writes a file atomically."""
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
    """Writes a UTF-8 text file atomically."""
    write_whole(path, text.encode())


class Listing:
    """Tests whether files exist; lists each folder of a bucket once instead of requesting every file."""

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

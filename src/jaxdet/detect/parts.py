"""Detections on disk while `jaxdet.detect.detect` runs: one file per process, one line per image.

A process appends to its own file and reads the files of all processes. Only complete lines count, and of several lines
for one image only the first with detections. So nothing is lost when a process is killed, and nothing counts twice.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np

from jaxdet.paths import parse_json, write_text

PARTS, _RECORD = "parts", "record.json"


@dataclass(frozen=True, eq=False)
class Found:
    """The result for one image: its detections, or the error if it could not be read.

    file: the path as it was given; size: (height, width).
    boxes: [D, 4] float32 xyxy in pixels of the image; labels: [D] int32; scores: [D] float32; by decreasing score.
    error: the message; empty if the image could be read.
    """

    file: str
    size: tuple[int, int] = (0, 0)
    boxes: np.ndarray | None = None
    labels: np.ndarray | None = None
    scores: np.ndarray | None = None
    error: str = ""


class Part:
    """The file of this process, open for appending. A truncated last line is removed.

    Raises:
        ValueError: another process is writing to the file.
    """

    def __init__(self, folder: Path, index: int) -> None:
        path = folder / f"part-{index:05d}.jsonl"
        self._file: TextIO = path.open("a+", encoding="utf-8")
        if not _lock(self._file):
            self._file.close()
            raise ValueError(
                f"{path}: another process is writing to this file; give each process its own --share, or wait for it"
            )
        self._file.truncate(sum(len(line) for line, _ in _read_lines(path)))

    def add(self, found: Found) -> None:
        """Appends the result of one image, which is kept even if this process is killed."""
        values: dict[str, Any] = {"file": found.file}
        if found.boxes is None or found.labels is None or found.scores is None:
            values["error"] = found.error
        else:
            values |= {
                "size": list(found.size),
                "boxes": [_to_floats(box) for box in found.boxes],
                "labels": found.labels.tolist(),
                "scores": _to_floats(found.scores),
            }
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()

    def __enter__(self) -> Part:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.fsync(self._file.fileno())
        self._file.close()


def read_parts(folder: Path) -> dict[str, Found]:
    """The results of all processes so far, by image file."""
    done: dict[str, Found] = {}
    for path in sorted(folder.glob("part-*.jsonl")):
        for _, found in _read_lines(path):
            if found.file not in done or done[found.file].error:
                done[found.file] = found
    return done


def check_detect_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Writes the settings of the detections in a folder, or compares them with those that were written before.

    Raises:
        ValueError: they differ; the message lists the differences.
    """
    path = folder / _RECORD
    if not path.is_file():
        write_text(path, json.dumps(record, indent=1))
        return
    try:
        old = dict(parse_json(path.read_bytes()))
    except (ValueError, TypeError):
        raise ValueError(f"{path} cannot be read; --overwrite starts again") from None
    differing = [
        f"{name} (was {old.get(name)}, now {record.get(name)})"
        for name in sorted(old.keys() | record.keys())
        if old.get(name) != record.get(name)
    ]
    if differing:
        raise ValueError(
            f"{folder.parent} has detections of other images, or with other settings: {', '.join(differing)}. Use the "
            "same to resume, give another --out, or start again with --overwrite"
        )


def digest_of(texts: Sequence[str]) -> str:
    """A short hash of texts in their order."""
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()[:16]


def _read_lines(path: Path) -> Iterator[tuple[bytes, Found]]:
    """The complete lines of a part and their values, up to the first damaged one."""
    with path.open("rb") as file:
        for line in file:
            try:
                found = _parse(parse_json(line))
            except (ValueError, KeyError, TypeError, OverflowError):
                return
            if not line.endswith(b"\n"):  # truncated before its newline: the next line would be appended to it
                return
            yield line, found


def _parse(values: dict[str, Any]) -> Found:
    """The inverse of `Part.add`. Raises ValueError, KeyError, TypeError or OverflowError for other values."""
    file, error = values["file"], values.get("error", "")
    if not isinstance(file, str) or not isinstance(error, str):
        raise ValueError("file or error is not text")
    if "error" in values:
        return Found(file, error=error)
    height, width = values["size"]
    with np.errstate(over="ignore"):  # becomes infinite, which is an error below
        boxes = np.array(values["boxes"], np.float32).reshape(-1, 4)
        scores = np.array(values["scores"], np.float32)
    labels = np.array(values["labels"], np.int32)
    if not labels.shape == scores.shape == boxes.shape[:1] or {type(height), type(width)} != {int}:
        raise ValueError("sizes do not match")
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ValueError("not finite")
    return Found(file, (height, width), boxes, labels, scores)


def _to_floats(values: np.ndarray) -> list[float]:
    """Numbers with only the digits that are needed to restore each float32 exactly."""
    return [float(str(value)) for value in np.asarray(values, np.float32)]


def _lock(file: TextIO) -> bool:
    """Locks a file; False if another process has locked it. Always True where files cannot be locked."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True

"""What is found, on disk while it is being found: a line an image, a file a process.

A process appends to its own file and reads everybody's. A line counts once it is whole, and of two for one image the
first that has detections: nothing is lost when a process is killed, and nothing can count twice.
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
    """An image that is done: what was detected on it, or why it could not be read.

    file: as it was given; size: (height, width).
    boxes: [D, 4] float32 xyxy in its pixels; labels: [D] int32; scores: [D] float32; by decreasing score.
    """

    file: str
    size: tuple[int, int] = (0, 0)
    boxes: np.ndarray | None = None
    labels: np.ndarray | None = None
    scores: np.ndarray | None = None
    error: str = ""


class Part:
    """This process's own file, open for appending; a last line that was cut short is taken back.

    Raises:
        ValueError: another process is at work on it.
    """

    def __init__(self, folder: Path, index: int) -> None:
        path = folder / f"part-{index:05d}.jsonl"
        self._file: TextIO = path.open("a+", encoding="utf-8")
        if not _locked(self._file):
            self._file.close()
            raise ValueError(f"{path}: another process writes there; give each its own --share, or wait for it")
        whole = sum(len(line) for line, _ in _lines(path))
        self._file.truncate(whole)

    def add(self, found: Found) -> None:
        """Writes one image down; it outlives this process from here on."""
        values: dict[str, Any] = {"file": found.file}
        if found.boxes is None or found.labels is None or found.scores is None:
            values["error"] = found.error
        else:
            values |= {
                "size": list(found.size),
                "boxes": [_shortest(box) for box in found.boxes],
                "labels": found.labels.tolist(),
                "scores": _shortest(found.scores),
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
    """What all processes have done so far, by image file."""
    done: dict[str, Found] = {}
    for path in sorted(folder.glob("part-*.jsonl")):
        for _, found in _lines(path):
            if found.file not in done or done[found.file].error:
                done[found.file] = found
    return done


def check_detect_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Keeps what the detections of a folder come from; compares it where there are some already.

    Raises:
        ValueError: they come from something else; what differs is named.
    """
    path = folder / _RECORD
    if not path.is_file():
        write_text(path, json.dumps(record, indent=1))
        return
    try:
        old = dict(parse_json(path.read_bytes()))
    except (ValueError, TypeError):
        raise ValueError(f"{path} cannot be read; --overwrite begins anew") from None
    differing = [
        f"{name} (was {old.get(name)}, now {record.get(name)})"
        for name in sorted(old.keys() | record.keys())
        if old.get(name) != record.get(name)
    ]
    if differing:
        raise ValueError(
            f"{folder.parent} holds detections of other images, or made otherwise: {', '.join(differing)}. Go on "
            "with the same, take another --out, or begin anew with --overwrite"
        )


def digest_of(texts: Sequence[str]) -> str:
    """A short hash of texts in their order."""
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()[:16]


def _lines(path: Path) -> Iterator[tuple[bytes, Found]]:
    """The whole lines of a part, as they stand there and as they read, up to one that does not."""
    with path.open("rb") as file:
        for line in file:
            try:
                found = _found(parse_json(line))
            except (ValueError, KeyError, TypeError, OverflowError):
                return
            if not line.endswith(b"\n"):  # all there but for its end: its number may have lost digits
                return
            yield line, found


def _found(values: dict[str, Any]) -> Found:
    """What a line of `Part.add` says. Raises ValueError, KeyError, TypeError or OverflowError for another one."""
    file, error = values["file"], values.get("error", "")
    if not isinstance(file, str) or not isinstance(error, str):
        raise ValueError("no names")
    if "error" in values:
        return Found(file, error=error)
    height, width = values["size"]
    with np.errstate(over="ignore"):  # becomes infinite, and is refused
        boxes = np.array(values["boxes"], np.float32).reshape(-1, 4)
        scores = np.array(values["scores"], np.float32)
    labels = np.array(values["labels"], np.int32)
    if not labels.shape == scores.shape == boxes.shape[:1] or {type(height), type(width)} != {int}:
        raise ValueError("no detections of one image")
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ValueError("not finite")
    return Found(file, (height, width), boxes, labels, scores)


def _shortest(values: np.ndarray) -> list[float]:
    """Numbers with as many digits as a float32 needs to be read back the same."""
    return [float(str(value)) for value in np.asarray(values, np.float32)]


def _locked(file: TextIO) -> bool:
    """Whether this process holds the file from now on; where files cannot be locked, it is taken at its word."""
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

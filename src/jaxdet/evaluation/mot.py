"""Detections in MOTChallenge's text format: a file per sequence, with lines ``frame,-1,x,y,w,h,score,-1,-1,-1``.

MOTChallenge counts pixels from 1: a box at the image's left edge has x = 1. Elsewhere in jaxdet, and in the original
HeadHunter's files, that edge is 0; ``origin=0`` reads and writes such files. A frame has the number in its file's name,
which starts at 1 in MOTChallenge's sets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxdet.data.dataset import DataError
from jaxdet.data.formats.coco_fields import COORDINATE_LIMIT
from jaxdet.paths import read_lines, write_text

IMAGE_FOLDERS = ("img1", "img")  # within a sequence's folder, in MOTChallenge's sets and HeadHunter's
_NUMBER = re.compile(r"(\d+)$")
_COLUMNS = 7  # the columns read: frame, id, x, y, width, height, score


@dataclass(frozen=True)
class Frame:
    """The sequence of an image, and its frame number there."""

    sequence: str
    number: int


@dataclass(frozen=True, eq=False)
class FrameDetections:
    """boxes: [D, 4] xyxy in pixels from 0; scores: [D]."""

    boxes: np.ndarray
    scores: np.ndarray


def frames_of(files: Sequence[str | Path]) -> list[Frame]:
    """The frame of each image file, by its path: ``MOT17-02/img1/000012.jpg`` is frame 12 of ``MOT17-02``.

    The sequence is the image's folder, or the parent of a folder ``img1`` or ``img``. The frame number is the number at
    the end of the file's name.

    Raises:
        DataError: a file name does not end in a number, or two files would be the same frame.
    """
    taken: dict[Frame, str | Path] = {}
    for file in files:
        path = Path(file).absolute()
        folder = path.parent.parent if path.parent.name in IMAGE_FOLDERS else path.parent
        number = _NUMBER.search(path.stem)
        if number is None:
            raise DataError(f"{file}: the name must end in a frame number, such as 000001.jpg; rename the frames")
        frame = Frame(folder.name, int(number[1]))
        if frame in taken:
            raise DataError(
                f"{file} and {taken[frame]} would both be frame {frame.number} of sequence {frame.sequence}; "
                "give the sequences' folders different names, or run the sequences one by one"
            )
        taken[frame] = file
    return list(taken)


def write_mot(folder: str | Path, found: Mapping[Frame, FrameDetections], *, origin: float = 1) -> list[Path]:
    """Writes ``SEQUENCE.txt`` for each sequence, sorted by frame and decreasing score. Files are written atomically.

    Coordinates have three decimals, scores six. A frame without detections has no line; a sequence without detections
    has an empty file.

    Args:
        folder: created if it does not exist.
        origin: the coordinate of the image's left and upper edge: 1 in MOTChallenge's format, 0 in HeadHunter's files.

    Returns:
        The paths of the files.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[str]] = {}
    for frame in sorted(found, key=lambda frame: (frame.sequence, frame.number)):
        of_sequence, one = lines.setdefault(frame.sequence, []), found[frame]
        for row in np.argsort(-one.scores, kind="stable"):
            x1, y1, x2, y2 = one.boxes[row].astype(np.float64).tolist()
            box = ",".join(f"{value:.3f}" for value in (x1 + origin, y1 + origin, x2 - x1, y2 - y1))
            of_sequence.append(f"{frame.number},-1,{box},{one.scores[row]:.6f},-1,-1,-1\n")
    files = []
    for sequence, of_sequence in lines.items():
        files.append(folder / f"{sequence}.txt")
        write_text(files[-1], "".join(of_sequence))
    return files


def read_mot(file: str | Path, *, origin: float = 1) -> dict[int, FrameDetections]:
    """The detections of a sequence by frame, in the order of the file.

    Args:
        origin: as for `write_mot`.

    Raises:
        DataError: the file does not exist, or a line is not in the format.
    """
    try:
        lines = read_lines(file)
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as MOTChallenge text ({error})") from None
    rows: dict[int, list[list[float]]] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            frame, row = _read_line(line, f"{file}, line {number}")
            rows.setdefault(frame, []).append(row)
    return {frame: _detections(np.array(found), origin) for frame, found in rows.items()}


def _read_line(line: str, where: str) -> tuple[int, list[float]]:
    """The frame number, and (x, y, width, height, score)."""
    parts = line.split(",")
    try:
        frame, _, *row = (float(part) for part in parts[:_COLUMNS])
        if not frame.is_integer() or len(row) != _COLUMNS - 2 or not all(abs(x) < COORDINATE_LIMIT for x in row):
            raise ValueError
    except ValueError:
        raise DataError(f"{where}: {line[:80]!r} is not frame,id,x,y,width,height,score,...") from None
    if min(row[2:4]) < 0:
        raise DataError(f"{where}: the box is {row[2]:g} wide and {row[3]:g} high; expected 0 or more")
    return int(frame), row


def _detections(rows: np.ndarray, origin: float) -> FrameDetections:
    corners = rows[:, :2] - origin
    return FrameDetections(np.concatenate([corners, corners + rows[:, 2:4]], axis=1), rows[:, 4])

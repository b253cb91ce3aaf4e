"""CroHD (Sundararaman et al. 2021) and other MOTChallenge sequences: ``gt/gt.txt`` beside ``seqinfo.ini``."""

from __future__ import annotations

import configparser
import math
import os
import reprlib
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from jaxdet.data.faults import DataError, FaultKind, Problem
from jaxdet.data.formats.lists.conversion import Conversion
from jaxdet.data.image_files import visible
from jaxdet.paths import read_lines

_COLUMNS = "frame,id,x,y,width,height,confidence,class,visibility"
_NEEDED = 6  # number of required columns
_DEFAULT = 1.0  # the value of missing columns
_MOST_DIGITS = 12  # of a frame's number
_LONGEST = 10**7  # maximum number of frames, four days of video


class _Info(NamedTuple):
    """A sequence; ``frames``: those of 1 to ``length`` with an image."""

    file: Path
    images: Path
    suffix: str
    length: int
    frames: frozenset[int]

    def image(self, frame: int) -> Path:
        return self.images / _image_name(frame, self.suffix)


class _Row(NamedTuple):
    line: int
    box: tuple[float, float, float, float]  # xyxy
    flag: int
    annotation: str


def convert_crohd(
    root: str | Path, *, visibility: float = 0.0, origin: float = 1, base: str | Path | None = None
) -> Conversion:
    """The heads of a sequence, or of all sequences in a folder, for all frames, including those without a head.

    Boxes that MOTChallenge does not evaluate (confidence 0, or a class other than 1) and boxes with low visibility have
    flag -1.

    Args:
        root: the folder of ``seqinfo.ini`` and ``gt/gt.txt``, or of several such folders.
        visibility: heads with at most this visibility, 0 to 1, have flag -1.
        origin: the coordinate of the image's edge: 1 in MOTChallenge's format, 0 in lists.
        base: the folder that paths in the list are relative to; by default ``root``.

    Raises:
        DataError: there is no sequence, or a ``seqinfo.ini`` or ``gt.txt`` cannot be read.
    """
    root = Path(root)
    folders = [folder for folder in (root, *visible(root)) if (folder / "gt" / "gt.txt").is_file()]
    if not folders:
        raise DataError(f"{root}: neither it nor a folder in it has 'gt/gt.txt'; give a sequence, or a folder of them")
    conversion = Conversion(root if base is None else base)
    for folder in folders:
        info, truth = _read_info(folder), folder / "gt" / "gt.txt"
        rows = _read_truth(truth, info.length, visibility, origin, conversion)
        _report_missing(info, conversion)
        for frame in sorted(info.frames | rows.keys()):
            if conversion.add_image(info.image(frame), (info.file, None)):
                for row in rows[frame]:
                    conversion.add_box(row.box, row.flag, (truth, row.line), row.annotation)
    return conversion


def _report_missing(info: _Info, conversion: Conversion) -> None:
    """Reports the frames without an image in one fault, as a damaged seqLength may be very large."""
    missing = info.length - len(info.frames)
    if missing:
        first = next(frame for frame in range(1, info.length + 1) if frame not in info.frames)
        text = f"seqLength is {info.length}, but {missing} of these frames have no image; the first is "
        problem = Problem(FaultKind.MISSING_IMAGE, f"{text}{info.image(first)}")
        conversion.report_fault(problem, (info.file, None))


def _read_info(folder: Path) -> _Info:
    file = folder / "seqinfo.ini"
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(file.read_text(encoding="utf-8-sig"))
        section = parser["Sequence"]
        length = section.getint("seqLength", 0)
    except (OSError, ValueError, KeyError, configparser.Error) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{file}: cannot be read ({reason}); expected [Sequence] with seqLength and imDir") from None
    if not 1 <= length <= _LONGEST:
        raise DataError(f"{file}: seqLength is missing or not from 1 to {_LONGEST}; expected the number of frames")
    images, suffix = folder / section.get("imDir", "img1"), section.get("imExt", ".jpg")
    try:
        names = os.listdir(images)
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: its imDir, {images}, cannot be read ({error}); correct it") from None
    stems = (name.removesuffix(suffix) for name in names)
    numbers = {int(stem) for stem in stems if stem.isascii() and stem.isdigit() and len(stem) <= _MOST_DIGITS}
    listed = set(names)
    frames = frozenset(n for n in numbers if 1 <= n <= length and _image_name(n, suffix) in listed)
    return _Info(file, images, suffix, length, frames)


def _image_name(frame: int, suffix: str) -> str:
    return f"{frame:06d}{suffix}"


def _read_truth(
    file: Path, length: int, visibility: float, origin: float, conversion: Conversion
) -> defaultdict[int, list[_Row]]:
    """The rows of each frame. Malformed rows are reported."""
    try:
        lines = read_lines(file)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as text ({error}); replace the file") from None
    rows: defaultdict[int, list[_Row]] = defaultdict(list)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        values = _numbers(line)
        if values is None:
            text = f"{reprlib.repr(line)} is not '{_COLUMNS}'"
            conversion.report_fault(Problem(FaultKind.MALFORMED_BOX, text), (file, number))
            continue
        frame, identity, x, y, width, height, confidence, kind, visible = values
        if not 1 <= frame <= length:
            text = f"has frame {frame:g}, but the sequence has frames 1 to {length}"
            conversion.report_fault(Problem(FaultKind.UNKNOWN_IMAGE, text), (file, number))
            continue
        counted = confidence != 0 and kind == 1 and visible > visibility
        x1, y1 = x - origin, y - origin
        box = (x1, y1, x1 + width, y1 + height)
        rows[int(frame)].append(_Row(number, box, 0 if counted else -1, f"track {identity:g}"))
    return rows


def _numbers(line: str) -> list[float] | None:
    """All columns of a row; None if it is malformed."""
    try:
        values = [float(part) for part in line.split(",")]
    except ValueError:
        return None
    columns = _COLUMNS.count(",") + 1
    if not _NEEDED <= len(values) <= columns or not all(map(math.isfinite, values)) or not values[0].is_integer():
        return None
    return values + [_DEFAULT] * (columns - len(values))

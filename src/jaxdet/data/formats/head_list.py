"""HeadHunter's lists: ``# path`` of an image, then a line ``x1 y1 x2 y2 flag`` for each of its heads.

Heads with a positive flag are ignored in evaluation; heads with a negative flag are ignored in training, too. Commas
instead of spaces and paths without ``#`` are also accepted, as in the original's instructions. Boxes are xyxy in pixels
of the upright image.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxdet.data.boxes import clip_box, clip_region, pack_boxes, pack_objects
from jaxdet.data.dataset import BACKGROUND, DetectionDataset, Record
from jaxdet.data.faults import DataError, Fault, FaultKind, Problem
from jaxdet.data.images import IMAGE_SUFFIXES, read_image_size
from jaxdet.paths import read_lines, write_text

HEAD = 1  # the label
NEGATIVES = ("ignored", "background")
ONES = ("ignored", "counted")


class ListBox(NamedTuple):
    """A box of a list and its line."""

    line: int
    box: tuple[float, float, float, float]  # xyxy
    flag: int


@dataclass
class ListImage:
    """An image of a list and its line, its boxes, and the problems of their lines."""

    path: str
    line: int
    boxes: list[ListBox] = field(default_factory=list)
    problems: list[tuple[int, Problem]] = field(default_factory=list)


class HeadListDataset(DetectionDataset):
    """The images of a HeadHunter list. The only class is ``"head"``, with label and category id 1.

    Images without heads are kept. Boxes are clipped to their images, as in the original, which CrowdHuman's boxes need;
    a warning has their number.

    Args:
        file: the list; root: the folder that its paths are relative to; by default the folder of the list.
        negatives: the meaning of negative flags in training: ``"ignored"`` regions, or ``"background"``, as in the
            original. Evaluation ignores them in both cases.
        ones: the meaning of positive flags in evaluation: ``"ignored"``, or ``"counted"`` like other heads. By default
            they are ignored if the list also has flags of 0, and otherwise counted, with a warning: SCUT-HEAD's script
            writes 1 for every box, which would leave nothing to evaluate.
        skip_faulty: leave out boxes that are degenerate, not finite, not numbers or entirely outside of the image, and
            count them in `skipped`, instead of raising.

    Raises:
        DataError: the list does not exist or is not text; or faults, all listed with their line: missing or unreadable
            images, malformed lines, faulty boxes.
        ValueError: an unknown value of ``negatives`` or ``ones``.
    """

    def __init__(
        self,
        file: str | Path,
        root: str | Path | None = None,
        *,
        negatives: str = "ignored",
        ones: str | None = None,
        skip_faulty: bool = False,
    ) -> None:
        for name, value, known in (("negatives", negatives, NEGATIVES), ("ones", ones, (*ONES, None))):
            if value not in known:
                raise ValueError(f"{name} of a head list must be one of {', '.join(map(str, known))}, not {value!r}")
        self.file = Path(file)
        root = self.file.parent if root is None else Path(root)
        images, faults = read_head_list(self.file)
        flags = {box.flag for image in images for box in image.boxes}
        count_ones = ones == "counted" or (ones is None and 0 not in flags and max(flags, default=0) > 0)
        records: list[Record] = []
        clipped: list[int] = []
        self._lines: list[int] = []
        seen: dict[str, int] = {}
        for image in images:
            path = os.path.join(root, image.path)
            try:
                size = read_image_size(path)
            except DataError as error:
                faults.append(Fault(error.faults[0].kind, str(self.file), image.line, str(error)))
                continue
            first = seen.setdefault(path, image.line)
            if first != image.line:
                text = f"is also on line {first}; it is used twice"
                faults.append(self._fault(image, image.line, Problem(FaultKind.SHARED_IMAGE, text)))
            faults += [self._fault(image, line, problem) for line, problem in image.problems]
            kept: list[ListBox] = []
            for line, box, flag in image.boxes:
                found = clip_region(box, size) if flag < 0 else clip_box(box, size)
                if isinstance(found, Problem):
                    faults.append(self._fault(image, line, found))
                    continue
                x1, y1, x2, y2 = found
                kept.append(ListBox(line, (x1, y1, x2, y2), 0 if flag > 0 and count_ones else flag))
                if _exceeds(box, size):
                    clipped.append(line)
            records.append(_record(len(records) + 1, path, size, kept, negatives))
            self._lines.append(image.line)
        if clipped:
            text = f"{len(clipped)} boxes exceed their images and are clipped, of which this is the first"
            faults.append(Fault(FaultKind.CLIPPED_BOXES, str(self.file), clipped[0], text))
        if count_ones and ones is None:
            text = (
                "no box has flag 0, so boxes with positive flags, as written by SCUT-HEAD's script, count as heads in "
                'evaluation; ones="ignored" ignores them'
            )
            faults.append(Fault(FaultKind.FLAG_ONE, str(self.file), None, text))
        super().__init__(records, (BACKGROUND, "head"), (-1, HEAD), faults=faults, skip_faulty=skip_faulty)

    def places(self, indices: Sequence[int]) -> list[tuple[str, int | None]]:
        return [(str(self.file), self._lines[index]) for index in indices]

    def _fault(self, image: ListImage, line: int, problem: Problem) -> Fault:
        return Fault(problem.kind, str(self.file), line, problem.text, os.path.basename(image.path))


def read_head_list(file: str | Path) -> tuple[list[ListImage], list[Fault]]:
    """The images of a list with their unchanged boxes, and the faults that do not concern an image.

    Raises:
        DataError: the file does not exist, is not text, or has no images.
    """
    try:
        lines = read_lines(file)
    except FileNotFoundError:
        raise DataError(f"{file}: no such list; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as text ({error}); write '# path' and 'x1 y1 x2 y2 flag'") from None
    images: list[ListImage] = []
    faults: list[Fault] = []
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line:
            continue
        if line.startswith("#") or line.lower().endswith(IMAGE_SUFFIXES):
            images.append(ListImage(line.lstrip("#").strip(), number))
        elif not images:
            text = f"{reprlib.repr(line)} is before the first image; expected '# path'"
            faults.append(Fault(FaultKind.MALFORMED_ENTRY, str(file), number, text))
        else:
            _read_line(line, number, images[-1])
    if not images:
        raise DataError(f"{file}: no images; expected '# path', and lines 'x1 y1 x2 y2 flag' after it")
    return images, faults


def write_head_list(file: str | Path, images: Iterable[ListImage]) -> None:
    """Writes a list atomically. Numbers have the shortest form that reads back the same."""
    lines: list[str] = []
    for image in images:
        lines.append(f"# {image.path}")
        lines += [" ".join([*map(_number, box.box), str(box.flag)]) for box in image.boxes]
    write_text(Path(file), "\n".join([*lines, ""]))


def _read_line(line: str, number: int, image: ListImage) -> None:
    try:
        x1, y1, x2, y2, flag = map(float, line.replace(",", " ").split())
        if not flag.is_integer():
            raise ValueError
    except (ValueError, OverflowError):
        text = f"{reprlib.repr(line)} is not 'x1 y1 x2 y2 flag' (four numbers and an integer)"
        image.problems.append((number, Problem(FaultKind.MALFORMED_BOX, text)))
        return
    image.boxes.append(ListBox(number, (x1, y1, x2, y2), int(flag)))


def _record(image_id: int, path: str, size: tuple[int, int], found: Sequence[ListBox], negatives: str) -> Record:
    trained = [box.box for box in found if box.flag >= 0]
    negative = [box.box for box in found if box.flag < 0]
    unscored = [box.box for box in found if box.flag > 0]
    packed = pack_objects(trained, [HEAD] * len(trained), negative if negatives == "ignored" else ())
    judged = None
    if unscored or len(packed.ignored) != len(negative):
        counted = np.array([box.flag == 0 for box in found if box.flag >= 0], bool)
        judged = replace(packed.select(counted), ignored=pack_boxes([*negative, *unscored], ())[0])
    return Record(image_id=image_id, path=path, size=size, judged=judged, **packed.annotations())


def _exceeds(box: Sequence[float], size: tuple[int, int]) -> bool:
    x1, y1, x2, y2 = box
    return min(x1, y1) < 0 or x2 > size[1] or y2 > size[0]


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))

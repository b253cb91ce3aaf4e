"""YOLO folders in Ultralytics' layout: ``data.yaml``, images in ``images``, text files in ``labels``.

A line of a text file is ``class cx cy w h``, or ``class x1 y1 x2 y2 x3 y3 ...`` for a polygon, which becomes its
bounding box. Coordinates are fractions of the upright image's size (see `jaxdet.data.orientation`).
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxdet.data.boxes import clean_box, pack_objects
from jaxdet.data.dataset import BACKGROUND, DetectionDataset, Record
from jaxdet.data.faults import DataError, Fault, FaultKind, Problem
from jaxdet.data.formats.yolo_yaml import Place, YoloDescription, read_description
from jaxdet.data.images import read_image_size
from jaxdet.paths import read_lines


class YoloDataset(DetectionDataset):
    """One split of a YOLO folder. The classes, from 0, become labels 1..K; `category_ids` has their numbers.

    Images without a text file have no boxes.

    Args:
        root: the folder of ``data.yaml``, or the yaml file.
        split: a key of ``data.yaml``, such as ``"train"``, for a folder, a file that lists images, or several of these.
        skip_faulty: leave out boxes that are degenerate, not finite, not numbers or outside of the image, and count
            them in `skipped`, instead of raising.

    Raises:
        DataError: no such yaml file or split; or faults, all listed with their line: missing or unreadable images,
            unknown classes, faulty boxes.
    """

    def __init__(self, root: str | Path, split: str, *, skip_faulty: bool = False) -> None:
        description = read_description(root)
        numbers = sorted(description.names)
        labels = {number: label for label, number in enumerate(numbers, start=1)}
        records: list[Record] = []
        images, faults = description.images(split)
        faults += _shared_names(description)
        self._places: list[Place] = []
        labelled = False
        for image_id, (path, place) in enumerate(images, start=1):
            try:
                size = read_image_size(path)
            except DataError as error:
                faults.append(Fault(error.faults[0].kind, *place, str(error)))
                continue
            boxes, found = [], []
            labelled |= os.path.isfile(label_file(path))
            for line, text in _read_lines(path, faults):
                entry = _read_line(text, size, labels, description.keypoints)
                if isinstance(entry, Problem):
                    kind, problem = entry
                    faults.append(Fault(kind, label_file(path), line, problem, os.path.basename(path)))
                else:
                    label, box = entry
                    found.append(label)
                    boxes.append(box)
            records.append(Record(image_id=image_id, path=path, size=size, **pack_objects(boxes, found).annotations()))
            self._places.append(place)
        if records and not labelled:
            raise DataError(
                f"{description.file}: none of the {len(records)} images of {split!r} has a label file; for the first, "
                f"{records[0].path}, it would be {label_file(records[0].path)}"
            )
        names = (BACKGROUND, *(description.names[number] for number in numbers))
        super().__init__(records, names, (-1, *numbers), faults=faults, skip_faulty=skip_faulty)

    def places(self, indices: Sequence[int]) -> list[Place]:
        return [self._places[index] for index in indices]


def _shared_names(description: YoloDescription) -> list[Fault]:
    first: dict[str, int] = {}
    found = []
    for number, name in sorted(description.names.items()):
        if first.setdefault(name, number) != number:
            text = f"class {number} has the name {name!r} of class {first[name]}; only their numbers differ"
            found.append(Fault(FaultKind.SHARED_NAME, str(description.file), None, text))
    return found


def label_file(image: str) -> str:
    """The text file of an image: its path with the last folder ``images`` replaced by ``labels``."""
    before, images, after = image.rpartition(f"{os.sep}images{os.sep}")
    stem = os.path.splitext(after)[0]
    return f"{before}{os.sep}labels{os.sep}{stem}.txt" if images else f"{stem}.txt"


def _read_lines(image: str, faults: list[Fault]) -> list[tuple[int, str]]:
    """(number from 1, text) of the non-empty lines of an image's text file, if there is one."""
    file = label_file(image)
    try:
        lines = read_lines(file)
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        kind, text = FaultKind.UNREADABLE_ANNOTATION, f"cannot be read as text ({error}); replace the file"
        faults.append(Fault(kind, file, None, text, os.path.basename(image)))
        return []
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def _read_line(
    text: str, size: tuple[int, int], labels: Mapping[int, int], keypoints: int
) -> tuple[int, list[float]] | Problem:
    """The label and the box, in pixels, of a line."""
    try:
        number, *parts = map(float, text.split())
    except ValueError:
        return Problem(FaultKind.MALFORMED_BOX, f"{reprlib.repr(text)} is not a class and numbers")
    if number not in labels:
        known = f"{min(labels)}..{max(labels)}"
        return Problem(FaultKind.UNKNOWN_CATEGORY, f"has class {number:g}, but data.yaml has {known}; add it there")
    if keypoints and len(parts) == 4 + keypoints:
        parts = parts[:4]
    height, width = size
    if len(parts) == 4:
        cx, cy, w, h = parts
        box = ((cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height)
    elif len(parts) >= 6 and len(parts) % 2 == 0:
        x, y = parts[::2], parts[1::2]
        box = (min(x) * width, min(y) * height, max(x) * width, max(y) * height)
    else:
        text = f"has {len(parts)} numbers after its class; expected cx cy w h, or the x y of three or more corners"
        return Problem(FaultKind.MALFORMED_BOX, text)
    clean = clean_box(box, size)
    return clean if isinstance(clean, Problem) else (labels[int(number)], clean)

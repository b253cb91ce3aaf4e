"""Reading COCO json files as datasets, and converting datasets to COCO ground truth.

Boxes in files are (x, y, width, height) in pixels. They are converted to xyxy immediately, and back only in `to_coco`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxdet.data.boxes import clean_box, clip_region, from_xywh, pack_objects
from jaxdet.data.dataset import BACKGROUND, DetectionDataset, Record
from jaxdet.data.faults import DataError, FaultKind, Problem
from jaxdet.data.formats.coco_fields import is_crowd, stated_size
from jaxdet.data.formats.coco_format import EntryProblem, entry_problems, load_coco_json, locate
from jaxdet.data.formats.coco_format import check_coco as check_coco
from jaxdet.data.formats.coco_format import read_coco_json as read_coco_json
from jaxdet.data.formats.json_lines import entry_lines
from jaxdet.data.images import read_image_size
from jaxdet.paths import Listing, to_path


class CocoDataset(DetectionDataset):
    """The images and boxes of a COCO json file.

    Category ids are mapped to labels 1..K in ascending order; `category_ids` has the ids. Crowd regions become ignored
    regions. Images without boxes are kept. Missing ``width`` and ``height`` are read from the image's header. Optional
    fields may be null, which means missing. Names may be integers.

    Args:
        annotation_file: the json file.
        image_dir: the folder that the file's ``file_name`` entries are relative to.
        skip_faulty: leave out annotations with a box that is degenerate, not finite or outside of the image, and count
            them in `skipped`, instead of raising.

    Raises:
        DataError: the file is missing or not in the format; or faults, all listed with their line: faulty entries or
            boxes, missing images.
    """

    def __init__(self, annotation_file: str | Path, image_dir: str | Path, *, skip_faulty: bool = False) -> None:
        self.annotation_file = to_path(annotation_file)
        content = load_coco_json(self.annotation_file)
        problems = entry_problems(content)
        unusable = {(found.section, found.number) for found in problems if found.problem.kind.severity == "error"}

        categories = sorted(_usable(content, "categories", unusable), key=lambda item: item[1]["id"])
        category_ids = (-1, *(category["id"] for _, category in categories))
        labels = {category_id: label for label, category_id in enumerate(category_ids) if label}
        names = (BACKGROUND, *(str(category["name"]) for _, category in categories))

        images, wrong = _read_images(_usable(content, "images", unusable), image_dir)
        problems += wrong
        problems += _read_annotations(_usable(content, "annotations", unusable), images, labels)
        self._image_entries = tuple(image.entry for image in images.values())
        self._skipped_entries = frozenset(found.number for found in problems if found.problem.kind.of_box)
        records = [
            Record(
                image_id=image_id,
                path=image.path,
                size=image.size,
                **pack_objects(image.boxes, image.labels, image.ignored).annotations(),
            )
            for image_id, image in images.items()
        ]
        faults = locate(self.annotation_file, content, problems)
        super().__init__(records, names, category_ids, faults=faults, skip_faulty=skip_faulty)

    def own_ground_truth(self) -> dict[str, Any]:
        """The content of the file, with crowds, areas and masks, without skipped annotations.

        Raises DataError if the file was removed or changed.
        """
        content = read_coco_json(self.annotation_file)
        skipped = self._skipped_entries
        content["annotations"] = [entry for number, entry in enumerate(content["annotations"]) if number not in skipped]
        return content

    def places(self, indices: Sequence[int]) -> list[tuple[str, int | None]]:
        entries = [self._image_entries[index] for index in indices]
        lines = entry_lines(self.annotation_file, {"images": set(entries)}) if entries else {}
        return [(str(self.annotation_file), lines.get(("images", entry))) for entry in entries]


def to_coco(dataset: DetectionDataset) -> dict[str, Any]:
    """Converts any dataset to COCO ground truth (json-ready) with the dataset's category ids.

    It has the ground truth for evaluation (`Record.truth`). Ignored regions, which have no class, become crowds of all
    classes. Annotation ids start at 1, as pycocotools treats a match with annotation 0 as none. No image is decoded.
    """
    annotations: list[dict[str, Any]] = []
    for record in dataset.records:
        truth = record.truth
        entries = [(box, dataset.category_ids[label], 0) for box, label in zip(truth.boxes, truth.labels, strict=True)]
        entries += [(box, number, 1) for box in truth.ignored for number in dataset.category_ids[1:]]
        for box, category_id, crowd in entries:
            x1, y1, x2, y2 = box.tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": record.image_id,
                    "category_id": category_id,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": crowd,
                }
            )
    images = [
        {"id": record.image_id, "file_name": Path(record.path).name, "height": record.size[0], "width": record.size[1]}
        for record in dataset.records
    ]
    categories = [
        {"id": category_id, "name": name}
        for category_id, name in zip(dataset.category_ids[1:], dataset.names[1:], strict=True)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def ground_truth(dataset: DetectionDataset) -> dict[str, Any]:
    """The COCO ground truth of a dataset: its own file (with crowds, without skipped annotations), or `to_coco`.

    Raises:
        DataError: the file was removed or changed.
    """
    own = dataset.own_ground_truth()
    return to_coco(dataset) if own is None else own


class _Image(NamedTuple):
    """An image, while its annotations are collected."""

    entry: int  # its position in the file
    path: str
    size: tuple[int, int]  # (height, width)
    boxes: list[list[float]]
    labels: list[int]
    ignored: list[list[float]]


def _usable(content: Mapping[str, Any], section: str, unusable: set[tuple[str, int]]) -> Iterator[tuple[int, Any]]:
    """(position, entry) of the entries of a section without errors."""
    numbered = enumerate(content[section])
    return (item for item in numbered if (section, item[0]) not in unusable) if unusable else numbered


def _read_images(
    entries: Iterable[tuple[int, Any]], image_dir: str | Path
) -> tuple[dict[int, _Image], list[EntryProblem]]:
    """Images by id, in the order of the file, and the problems of missing or unreadable ones."""
    images, problems = {}, []
    files = Listing()
    for number, entry in entries:
        path = os.path.join(os.fspath(image_dir), entry["file_name"])
        size = stated_size(entry)
        problem = None
        if path not in files:
            text = f"its file {path} is missing; check that file names are relative to {str(image_dir)!r}"
            problem = Problem(FaultKind.MISSING_IMAGE, text)
        elif size is None:
            try:
                size = read_image_size(path)
            except DataError as error:
                problem = Problem(error.faults[0].kind, str(error))
        if problem is None:
            assert size is not None
            images[entry["id"]] = _Image(number, path, size, [], [], [])
        else:
            problems.append(EntryProblem("images", number, problem))
    return images, problems


def _read_annotations(
    entries: Iterable[tuple[int, Any]], images: Mapping[int, _Image], labels: Mapping[int, int]
) -> list[EntryProblem]:
    """Adds boxes and crowd regions to their images, and returns the problems of faulty ones."""
    problems = []
    for number, entry in entries:
        image, label = images.get(entry["image_id"]), labels.get(entry["category_id"])
        if image is None or label is None:  # a missing image or faulty category, which is reported already
            continue
        crowd = is_crowd(entry)
        corners: Sequence[float] | Problem = from_xywh(entry["bbox"], "bbox")
        if not isinstance(corners, Problem):
            corners = clip_region(corners, image.size) if crowd else clean_box(corners, image.size)
        if isinstance(corners, Problem):
            problems.append(EntryProblem("annotations", number, corners))
        elif crowd:
            image.ignored.append(corners)
        else:
            image.boxes.append(corners)
            image.labels.append(label)
    return problems

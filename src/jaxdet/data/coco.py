"""COCO json files: reading one as a dataset, and writing any dataset as COCO ground truth.

The file's boxes are (x, y, width, height) in pixels; they become xyxy at once and are xywh again only in `to_coco`.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxdet.data.dataset import (
    BACKGROUND,
    DataError,
    DetectionDataset,
    Fault,
    Record,
    clean_box,
    pack_boxes,
    read_image_size,
    report_faults,
)


class CocoDataset(DetectionDataset):
    """Images and boxes of an ordinary COCO json file.

    Category ids are mapped to labels 1..K in the order of the ids and kept in `category_ids`. Crowd regions are
    left out of the examples (they stay in the file, where evaluation ignores what falls on them). Images without
    boxes are kept. A missing ``width`` or ``height`` is read from the image's header.

    Args:
        annotation_file: the json file.
        image_dir: the folder that the file's ``file_name`` entries are relative to.
        skip_faulty: leave out annotations whose box is degenerate, not finite or out of the image, and count them
            in `skipped`, instead of raising.

    Raises:
        DataError: a file is missing or not in the format, with what to do about it; or, listing every one, there
            are faulty annotations and ``skip_faulty`` is false.
    """

    def __init__(self, annotation_file: str | Path, image_dir: str | Path, *, skip_faulty: bool = False) -> None:
        self.annotation_file = Path(annotation_file)
        content = read_coco_json(self.annotation_file)
        categories = sorted(content["categories"], key=lambda category: category["id"])
        category_ids = (-1, *(category["id"] for category in categories))
        labels = {category_id: label for label, category_id in enumerate(category_ids) if label}
        images = _images_by_id(content, image_dir)
        boxes, faults = _boxes_by_image(self.annotation_file, content, images, labels)
        report_faults(faults, skip_faulty=skip_faulty)
        records = [
            Record(image_id, path, size, *pack_boxes(*boxes[image_id])) for image_id, (path, size) in images.items()
        ]
        names = (BACKGROUND, *(category["name"] for category in categories))
        super().__init__(records, names, category_ids, faults=faults)


def read_coco_json(path: str | Path) -> dict[str, Any]:
    """A COCO ground-truth file as a dict whose entries have the keys and integer ids that the format requires.

    Raises:
        DataError: no such file, not JSON, a key is missing, an id is no integer or occurs twice among the images or
            the categories, or an annotation refers to an unknown image or category. One line each, with what to do.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such annotation file; check the path") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: is not JSON ({error}); give a COCO annotation file") from None
    check_coco(content, str(path))
    return content


def check_coco(content: Any, source: str) -> None:
    """Checks that ``content``, which came from ``source``, is COCO ground truth. Raises as `read_coco_json` says."""
    if not isinstance(content, Mapping):
        raise DataError(f"{source}: holds a {type(content).__name__}, not an object; give a COCO annotation file")
    for section, keys in _REQUIRED.items():
        entries = content.get(section)
        if not isinstance(entries, list):
            raise DataError(
                f"{source}: has no list {section!r}; a COCO annotation file has 'images', 'annotations', 'categories'"
            )
        for number, entry in enumerate(entries):
            for key, kind in keys.items():
                if not isinstance(entry, Mapping) or key not in entry:
                    raise DataError(f"{_where(source, section, number, entry)} has no {key!r}; add it")
                if not isinstance(entry[key], kind) or isinstance(entry[key], bool):
                    raise DataError(
                        f"{_where(source, section, number, entry)} has {key!r} = {entry[key]!r}; "
                        f"it must be {_KIND_NAMES[kind]}"
                    )
    known: dict[str, set[int]] = {}
    for section in ("images", "categories"):
        known[section] = {entry["id"] for entry in content[section]}
        if len(known[section]) != len(content[section]):
            (twice, _), *_ = Counter(entry["id"] for entry in content[section]).most_common(1)
            raise DataError(f"{source}: id {twice} occurs more than once in {section!r}; give each its own")
    for number, entry in enumerate(content["annotations"]):
        for key, section in (("image_id", "images"), ("category_id", "categories")):
            if entry[key] not in known[section]:
                raise DataError(
                    f"{_where(source, 'annotations', number, entry)} has {key} {entry[key]}, which is not in "
                    f"{section!r}; add it there or remove the annotation"
                )


def to_coco(dataset: DetectionDataset) -> dict[str, Any]:
    """An ordinary COCO ground truth (json-ready) of any dataset: xywh boxes, the dataset's own category ids.

    Annotation ids count from 1, as pycocotools takes a match with annotation 0 for none. Nothing is decoded.
    """
    annotations: list[dict[str, Any]] = []
    for record in dataset.records:
        for box, label in zip(record.boxes.tolist(), record.labels.tolist(), strict=True):
            width, height = box[2] - box[0], box[3] - box[1]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": record.image_id,
                    "category_id": dataset.category_ids[label],
                    "bbox": [box[0], box[1], width, height],
                    "area": width * height,
                    "iscrowd": 0,
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
    """What to evaluate ``dataset`` against: its own COCO file (with crowds, without skipped faults), or `to_coco`.

    Raises:
        DataError: the file has gone, or is no longer what it was.
    """
    if not isinstance(dataset, CocoDataset):
        return to_coco(dataset)
    content = read_coco_json(dataset.annotation_file)
    skipped = {fault.annotation for fault in dataset.faults}
    content["annotations"] = [
        entry for number, entry in enumerate(content["annotations"]) if _annotation_name(number, entry) not in skipped
    ]
    return content


_REQUIRED: dict[str, dict[str, type]] = {
    "images": {"id": int, "file_name": str},
    "annotations": {"image_id": int, "category_id": int, "bbox": list},
    "categories": {"id": int, "name": str},
}
_KIND_NAMES = {int: "an integer", str: "a string", list: "a list"}


def _where(source: str, section: str, number: int, entry: Any) -> str:
    known_as = entry.get("id", "missing") if isinstance(entry, Mapping) else "missing"
    return f"{source}: entry {number} of {section!r} (id {known_as})"


def _annotation_name(number: int, entry: Mapping[str, Any]) -> str:
    return str(entry["id"]) if "id" in entry else f"number {number} (no id)"


def _images_by_id(content: Mapping[str, Any], image_dir: str | Path) -> dict[int, tuple[str, tuple[int, int]]]:
    """{image id: (path, (height, width))} in the file's order."""
    images = {}
    missing = []
    for entry in content["images"]:
        path = os.path.join(image_dir, entry["file_name"])
        if not os.path.isfile(path):
            missing.append(entry)
            continue
        size = (entry.get("height"), entry.get("width"))
        if not all(isinstance(side, int) and side > 0 for side in size):
            size = read_image_size(path)
        images[entry["id"]] = (path, size)
    if missing:
        first = missing[0]
        others = f" (and {len(missing) - 1} more images)" if len(missing) > 1 else ""
        raise DataError(
            f"{os.path.join(image_dir, first['file_name'])}: the file of image {first['id']} is missing{others}; "
            f"check that {str(image_dir)!r} is the folder the file names are relative to"
        )
    return images


def _boxes_by_image(
    file: Path, content: Mapping[str, Any], images: Mapping[int, tuple[str, tuple[int, int]]], labels: Mapping[int, int]
) -> tuple[dict[int, tuple[list, list]], list[Fault]]:
    """({image id: (xyxy boxes, labels)}, faults); crowds are left out."""
    found: dict[int, tuple[list, list]] = {image_id: ([], []) for image_id in images}
    faults = []
    for number, entry in enumerate(content["annotations"]):
        if entry.get("iscrowd", 0):
            continue
        image_id, bbox = entry["image_id"], entry["bbox"]
        path, size = images[image_id]
        if len(bbox) != 4 or not all(isinstance(value, int | float) for value in bbox):
            box, problem = None, f"bbox {bbox!r} is not four numbers"
        else:
            box, problem = clean_box((bbox[0], bbox[1], bbox[0] + bbox[2], bbox[1] + bbox[3]), size)
        if box is None:
            image = f"{os.path.basename(path)} (id {image_id})"
            faults.append(Fault(str(file), image, _annotation_name(number, entry), problem))
        else:
            found[image_id][0].append(box)
            found[image_id][1].append(labels[entry["category_id"]])
    return found, faults

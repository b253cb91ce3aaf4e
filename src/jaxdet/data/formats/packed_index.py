"""Reading and checking ``index.json`` of packed datasets.

All functions raise ValueError with the entry if it is not as `jaxdet.data.formats.packed.index_content` writes it.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxdet.data.dataset import Record
from jaxdet.data.formats.class_folder import LabelledPath
from jaxdet.data.formats.coco_fields import SIDE_LIMIT
from jaxdet.data.objects import Objects

_PARTS = ("boxes", "labels", "ignored")


def check_shards(shards: Any, images: Any) -> None:
    """Checks that the shards have as many images as are listed."""
    if not isinstance(shards, list) or not all(type(count) is int and count >= 0 for count in shards):
        raise ValueError(f"'shards' is {reprlib.repr(shards)}; expected a list of counts")
    if not isinstance(images, list) or not all(isinstance(entry, dict) for entry in images):
        raise ValueError("'images' is not a list of objects")
    if sum(shards) != len(images):
        raise ValueError(f"its shards have {sum(shards)} images, but {len(images)} are listed")


def read_names(names: Any) -> tuple[str, ...]:
    """The class names."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"'names' is {reprlib.repr(names)}; expected a list of strings")
    return tuple(names)


def read_labelled(entries: Sequence[dict[str, Any]], classes: int) -> list[LabelledPath]:
    """The labelled images of a dataset with ``classes`` classes."""
    found = []
    for number, entry in enumerate(entries):
        path, label = _text(entry["path"], number), entry["label"]
        if type(label) is not int or not 0 <= label < classes:
            raise ValueError(f"image {number} has label {reprlib.repr(label)}; expected one of 0..{classes - 1}")
        found.append(LabelledPath(path, label))
    return found


def read_records(entries: Sequence[dict[str, Any]], classes: int, category_ids: Any) -> list[Record]:
    """The images and boxes of a dataset with ``classes`` classes, including the background."""
    if not isinstance(category_ids, list) or not all(type(number) is int for number in category_ids):
        raise ValueError(f"'category_ids' is {reprlib.repr(category_ids)}; expected a list of integers")
    return [_record(entry, number, classes) for number, entry in enumerate(entries)]


def _record(entry: dict[str, Any], number: int, classes: int) -> Record:
    path, image_id, size, judged = _text(entry["path"], number), entry["id"], entry["size"], entry["judged"]
    if type(image_id) is not int:
        raise ValueError(f"image {number} has the id {reprlib.repr(image_id)}; expected an integer")
    if not isinstance(size, list) or len(size) != 2 or not all(map(_is_side, size)):
        raise ValueError(f"image {number} has the size {reprlib.repr(size)}; expected [height, width]")
    trained = _objects(entry, number, size, classes)
    truth = None if judged is None else _objects(judged, number, size, classes)
    height, width = size
    return Record(image_id=image_id, path=path, size=(height, width), judged=truth, **trained.annotations())


def _objects(entry: Any, number: int, size: Sequence[int], classes: int) -> Objects:
    if not isinstance(entry, dict) or not all(isinstance(entry[part], list) for part in _PARTS):
        raise ValueError(f"image {number} has no lists {', '.join(_PARTS)}")
    labels = entry["labels"]
    if len(labels) != len(entry["boxes"]) or not all(type(label) is int and 0 < label < classes for label in labels):
        text = f"{len(entry['boxes'])} boxes and labels {reprlib.repr(labels)}; expected 1..{classes - 1} for each box"
        raise ValueError(f"image {number} has {text}")
    boxes, ignored = (_boxes(entry[part], number, size) for part in ("boxes", "ignored"))
    return Objects(boxes=boxes, labels=np.array(labels, np.int32), ignored=ignored)


def _boxes(rows: list[Any], number: int, size: Sequence[int]) -> np.ndarray:
    """Boxes [G, 4] float32 xyxy, checked to be inside of the image."""
    try:
        with np.errstate(over="ignore"):  # infinite boxes raise below
            boxes = np.array(rows, np.float32) if rows else np.zeros((0, 4), np.float32)
    except (TypeError, ValueError, OverflowError):
        boxes = np.zeros(0, np.float32)
    if boxes.ndim == 2 and boxes.shape[1] == 4:
        low, high = boxes[:, :2], boxes[:, 2:]
        if (low >= 0).all() and (low < high).all() and (high <= np.array(size[::-1], np.float32)).all():
            return boxes
    height, width = size
    text = f"boxes {reprlib.repr(rows)}; expected [x1, y1, x2, y2] each, inside of its {width} x {height} pixels"
    raise ValueError(f"image {number} has {text}")


def _is_side(value: Any) -> bool:
    return type(value) is int and 0 < value <= SIDE_LIMIT


def _text(path: Any, number: int) -> str:
    if not isinstance(path, str):
        raise ValueError(f"image {number} has the path {reprlib.repr(path)}; expected a string")
    return path

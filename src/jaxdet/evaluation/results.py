"""The detections of a dataset's images, collected image by image.

Boxes are passed as ``(x1, y1, x2, y2)`` in pixels of the original image. The records of `DetectionResults.results`, and
COCO's result files, hold them as (x, y, width, height).
"""

from __future__ import annotations

import json
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from jaxdet.data.dataset import DataError
from jaxdet.data.formats.coco_fields import COORDINATE_LIMIT, finite_box, finite_number
from jaxdet.paths import PathLike, parse_json, to_path, write_text


class DetectionResults(ABC):
    """Collects detections image by image. Evaluators are subclasses.

    Args:
        image_ids: the image ids of the ground truth.
        known: the category ids of the ground truth.
        category_ids: the category id of each label, with the background at index 0; by default labels 1..K are
            ``known``.
    """

    def __init__(self, image_ids: Sequence[Any], known: Sequence[int], category_ids: Sequence[int] | None) -> None:
        self._image_ids = set(image_ids)
        self._known = frozenset(known)
        self.category_ids = (-1, *known) if category_ids is None else tuple(category_ids)
        self.results: list[dict[str, Any]] = []

    def add(
        self,
        image_id: int,
        boxes: np.ndarray,
        scores: np.ndarray,
        labels: np.ndarray,
        *,
        valid: np.ndarray | None = None,
    ) -> None:
        """Adds the detections of one image.

        Args:
            boxes: [D, 4] xyxy in pixels of the original image.
            scores: [D].
            labels: [D] integers, 1..K.
            valid: [D] bool, false for padding; by default all slots are valid.

        Raises:
            DataError: the image is not in the ground truth, or a label has no category id.
            ValueError: the shapes do not match, or a valid box or score is not finite.
        """
        if int(image_id) not in self._image_ids:
            self._unknown_image(int(image_id))
        boxes, scores, labels = np.asarray(boxes, np.float64), np.asarray(scores, np.float64), np.asarray(labels)
        keep = np.ones(len(boxes), bool) if valid is None else np.asarray(valid, bool)
        if boxes.shape != (len(boxes), 4) or not scores.shape == labels.shape == keep.shape == (len(boxes),):
            raise ValueError(
                "expected boxes [D, 4], scores [D], labels [D] and valid [D], "
                f"got {boxes.shape}, {scores.shape}, {labels.shape} and {keep.shape}"
            )
        boxes, scores, labels = boxes[keep], scores[keep], labels[keep]
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise ValueError(f"image {image_id}: a detection's box or score is not finite; mask padding with valid")
        unknown = [label for label in labels.tolist() if not 0 < label < len(self.category_ids)]
        if unknown:
            raise DataError(f"image {image_id}: label {unknown[0]} is not in 1..{len(self.category_ids) - 1}")
        self.results += [
            {
                "image_id": int(image_id),
                "category_id": int(self.category_ids[label]),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": score,
            }
            for (x1, y1, x2, y2), score, label in zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True)
        ]

    def add_results(self, results: Iterable[Mapping[str, Any]]) -> None:
        """Adds records in COCO's result format (xywh boxes), such as the `results` of another host.

        Raises:
            DataError: a record is not in the format, or its image is not in the ground truth. Nothing is added then.
        """
        records = list(results)
        for number, record in enumerate(records):
            problem = _problem(record)
            if problem:
                raise DataError(f"result {number} {problem}; give records of COCO's result format, boxes as xywh")
            if record["image_id"] not in self._image_ids:
                self._unknown_image(record["image_id"])
        self.results += [dict(record) for record in records]

    def read(self, path: PathLike) -> None:
        """Adds the detections of a COCO result file, such as one from `write`.

        Raises:
            DataError: the file is missing or not in the format, or an image is not in the ground truth. Nothing is
                added then.
        """
        try:
            results = parse_json(to_path(path).read_bytes())
            if not isinstance(results, list):
                raise ValueError(f"it must be a list, not a {type(results).__name__}")
            self.add_results(results)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read as COCO results ({error})") from None

    def known_results(self) -> list[dict[str, Any]]:
        """The results of the classes in the ground truth."""
        return [record for record in self.results if record["category_id"] in self._known]

    def write(self, path: PathLike) -> None:
        """Writes the `known_results` as a COCO result file, atomically."""
        write_text(path, json.dumps(self.known_results()))

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """The metrics of the detections added so far, by name."""

    @abstractmethod
    def table(self) -> str:
        """Details of the last `evaluate` as text."""

    def _unknown_image(self, image_id: Any) -> None:
        raise DataError(
            f"image {reprlib.repr(image_id)} is not in the ground truth, which has {len(self._image_ids)} images"
        )


def _problem(record: Any) -> str:
    """Why a value is not a record of COCO's result format; empty if it is."""
    if not isinstance(record, Mapping):
        return f"must be a JSON object, not {reprlib.repr(record)}"
    for key, fits, expected in _KEYS:
        if key not in record:
            return f"has no {key!r}"
        if not fits(record[key]):
            return f"has {key!r} = {reprlib.repr(record[key])}; it must be {expected}"
    return ""


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_box(value: Any) -> bool:
    return finite_box(value) and max(map(abs, value)) < COORDINATE_LIMIT and min(value[2:]) >= 0


_KEYS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("image_id", _is_integer, "an integer"),
    ("category_id", _is_integer, "an integer"),
    ("bbox", _is_box, "four finite numbers, the width and height not negative"),
    ("score", finite_number, "a finite number"),
)

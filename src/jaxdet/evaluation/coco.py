"""Average precision and recall as COCO defines them, counted by pycocotools.

Boxes come in as ``(x1, y1, x2, y2)`` in pixels of the original image and are (x, y, width, height) only in the
results' records, which are what COCO's result files hold.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from jaxdet.data.coco import check_coco, read_coco_json
from jaxdet.data.dataset import DataError
from jaxdet.paths import PathLike, write_whole

CURVE_THRESHOLDS = (0.5, 0.75)  # IoU
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@dataclass(frozen=True)
class ClassResult:
    """What was found of one class; -1 where it has no ground truth.

    boxes: how many ground truths, crowds left out.
    curves: by IoU threshold, precision [101] at the recalls 0, 0.01, ..., 1.
    """

    name: str
    boxes: int
    ap: float
    ap50: float
    ap75: float
    curves: Mapping[float, np.ndarray]


class CocoEvaluator:
    """Collects detections image by image and compares them with a ground truth.

    Every image of the ground truth counts, also one that nothing was added for.

    Args:
        ground_truth: a COCO json file, or its content; `jaxdet.data.ground_truth` makes it from any dataset.
            Missing ``area`` (then width x height) and ``iscrowd`` (then 0) are filled in.
        category_ids: the category id by label, index 0 being the background, as `DetectionDataset.category_ids`. By
            default labels 1..K are the ground truth's categories in the order of their ids. For models whose labels
            are COCO's category ids (torchvision's own weights) pass ``range(91)``.

    Raises:
        DataError: the ground truth is not in COCO's format; the message says where.
    """

    def __init__(
        self, ground_truth: Mapping[str, Any] | PathLike, *, category_ids: Sequence[int] | None = None
    ) -> None:
        if not isinstance(ground_truth, Mapping):
            ground_truth = read_coco_json(ground_truth)
        else:
            check_coco(ground_truth, "the ground truth")
        self._content = _completed(ground_truth)
        self._image_ids = {image["id"] for image in self._content["images"]}
        self._known = sorted(category["id"] for category in self._content["categories"])
        self.category_ids = (-1, *self._known) if category_ids is None else tuple(category_ids)
        self.results: list[dict[str, Any]] = []
        self.classes: tuple[ClassResult, ...] = ()  # of the last `evaluate`

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
            valid: [D] bool; where it is false, the slot is padding. By default all are detections.

        Raises:
            DataError: the image is not in the ground truth, or a label has no category id.
            ValueError: the shapes do not belong together, or a valid box or score is not finite.
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
        self.add_results(
            {
                "image_id": int(image_id),
                "category_id": int(self.category_ids[label]),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": score,
            }
            for (x1, y1, x2, y2), score, label in zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True)
        )

    def add_results(self, results: Iterable[Mapping[str, Any]]) -> None:
        """Adds records of COCO's result format (xywh boxes), such as another host's `results`.

        Raises:
            DataError: a record's image is not in the ground truth; nothing is added then.
        """
        records = [dict(record) for record in results]
        for record in records:
            if record["image_id"] not in self._image_ids:
                self._unknown_image(record["image_id"])
        self.results += records

    def write(self, path: PathLike) -> None:
        """Writes the results as a COCO result file; those of classes that the ground truth lacks are left out."""
        known = set(self._known)
        records = [record for record in self.results if record["category_id"] in known]
        write_whole(path, json.dumps(records).encode())

    def evaluate(self) -> dict[str, float]:
        """COCO's twelve numbers under the names in `METRICS`, and ``AP/<class>`` of each class.

        All lie in 0..1. A number for which the ground truth has no object (say, none of that size) is -1, as in
        pycocotools. Without any detection the others are 0.
        """
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = self._content
            truth.createIndex()
            found = COCO()
            found.dataset = {**self._content, "annotations": self._detections()}
            found.createIndex()
            evaluation = COCOeval(truth, found, "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        numbers = dict(zip(METRICS, (float(value) for value in evaluation.stats), strict=True))
        self.classes = self._by_class(evaluation)
        return numbers | {f"AP/{one.name}": one.ap for one in self.classes}

    def _by_class(self, evaluation: COCOeval) -> tuple[ClassResult, ...]:
        names = {category["id"]: category["name"] for category in self._content["categories"]}
        counts = Counter(entry["category_id"] for entry in self._content["annotations"] if not entry["iscrowd"])
        thresholds = [round(float(threshold), 2) for threshold in evaluation.params.iouThrs]
        precision = evaluation.eval["precision"]  # [IoU thresholds, recalls, classes, areas, detection limits]
        found = []
        for position, category_id in enumerate(evaluation.params.catIds):
            curves = precision[:, :, position, 0, -1]  # all sizes, the most detections
            at = {threshold: curves[thresholds.index(threshold)] for threshold in CURVE_THRESHOLDS}
            found.append(
                ClassResult(names[category_id], counts[category_id], _mean(curves), _mean(at[0.5]), _mean(at[0.75]), at)
            )
        return tuple(found)

    def table(self) -> str:
        """AP, AP50, AP75 and the number of ground truths of each class after `evaluate`, as text."""
        width = max([len("class"), *(len(one.name) for one in self.classes)])
        lines = [f"{'class':<{width}}  {'AP':>6}  {'AP50':>6}  {'AP75':>6}  {'boxes':>7}"]
        for one in self.classes:
            values = "  ".join(f"{value:6.3f}" if value >= 0 else "     -" for value in (one.ap, one.ap50, one.ap75))
            lines.append(f"{one.name:<{width}}  {values}  {one.boxes:7d}")
        return "\n".join(lines)

    def _detections(self) -> list[dict[str, Any]]:
        known = set(self._known)
        return [
            {**record, "id": number, "area": record["bbox"][2] * record["bbox"][3], "iscrowd": 0}
            for number, record in enumerate(self.results, start=1)
            if record["category_id"] in known
        ]

    def _unknown_image(self, image_id: Any) -> None:
        raise DataError(f"image {image_id} is not in the ground truth, which has {len(self._image_ids)} images")


def _mean(precision: np.ndarray) -> float:
    """Of what pycocotools counted; -1 where it counted nothing."""
    counted = precision[precision > -1]
    return float(counted.mean()) if counted.size else -1.0


def _completed(content: Mapping[str, Any]) -> dict[str, Any]:
    """A copy whose annotations have all that pycocotools reads, with ids from 1 (it takes a match with 0 for none)."""
    for entry in content["annotations"]:
        bbox = entry["bbox"]
        if len(bbox) != 4 or not all(isinstance(value, int | float) and math.isfinite(value) for value in bbox):
            raise DataError(
                f"the ground truth's annotation {entry.get('id', '')} of image {entry['image_id']} has bbox {bbox}, "
                "which is not four finite numbers; correct or remove it"
            )
    annotations = [
        {
            **entry,
            "id": number,
            "area": entry.get("area", entry["bbox"][2] * entry["bbox"][3]),
            "iscrowd": entry.get("iscrowd", 0),
        }
        for number, entry in enumerate(content["annotations"], start=1)
    ]
    return {"images": content["images"], "annotations": annotations, "categories": content["categories"]}

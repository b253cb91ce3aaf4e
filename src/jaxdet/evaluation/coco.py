"""COCO's average precision and recall, computed by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from jaxdet.data.formats.coco import check_coco, read_coco_json
from jaxdet.data.formats.coco_fields import is_crowd
from jaxdet.data.formats.coco_format import check_boxes
from jaxdet.evaluation.results import DetectionResults
from jaxdet.paths import PathLike

CURVE_THRESHOLDS = (0.5, 0.75)  # IoU
MAX_DETS = 100  # COCO's limit of detections per class and image
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@dataclass(frozen=True)
class ClassResult:
    """The metrics of one class; -1 if it has no ground truth.

    boxes: the number of ground-truth boxes without crowds.
    curves: precision [101] at the recalls 0, 0.01, ..., 1, by IoU threshold.
    """

    name: str
    boxes: int
    ap: float
    ap50: float
    ap75: float
    curves: Mapping[float, np.ndarray]


class CocoEvaluator(DetectionResults):
    """Evaluates detections against a ground truth. Images without detections count as well.

    Args:
        ground_truth: a COCO json file, or its content; `jaxdet.data.ground_truth` makes it from any dataset.
            Missing or null ``area`` and ``iscrowd`` become width x height and 0.
        category_ids: the category id of each label, with the background at index 0, as in
            `DetectionDataset.category_ids`. By default labels 1..K are the ground truth's categories in the order of
            their ids. For torchvision's weights, whose labels are COCO's category ids, pass ``range(91)``.
        max_dets: the most detections per class and image, taken by decreasing score. With COCO's 100, images with more
            objects have missed ones. With another limit K, ``AR100`` is named ``ARK``.

    Raises:
        ValueError: ``max_dets`` is below 1.
        DataError: the ground truth is not in COCO's format; the message gives the place.
    """

    def __init__(
        self,
        ground_truth: Mapping[str, Any] | PathLike,
        *,
        category_ids: Sequence[int] | None = None,
        max_dets: int = MAX_DETS,
    ) -> None:
        if max_dets < 1:
            raise ValueError(f"max_dets must be at least 1, not {max_dets}")
        self._limits = [limit for limit in (1, 10) if limit < max_dets] + [max_dets]
        if isinstance(ground_truth, Mapping):
            source = "the ground truth"
            check_coco(ground_truth, source)
        else:
            source = str(ground_truth)
            ground_truth = read_coco_json(ground_truth)
        check_boxes(ground_truth, source)
        self._content = _completed(ground_truth)
        known = sorted(category["id"] for category in self._content["categories"])
        super().__init__([image["id"] for image in self._content["images"]], known, category_ids)
        self.classes: tuple[ClassResult, ...] = ()  # of the last `evaluate`

    def evaluate(self) -> dict[str, float]:
        """COCO's twelve metrics by the names in `METRICS` (see ``max_dets``), and ``AP/<class>`` of each class.

        Classes that share a name are named ``AP/<class> (id <category id>)``.

        Values are in 0..1. As in pycocotools, a metric is -1 if the ground truth has no object for it (such as none of
        that size). Without detections the other metrics are 0.
        """
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = self._content
            truth.createIndex()
            found = COCO()
            found.dataset = {**self._content, "annotations": self._detections()}
            found.createIndex()
            evaluation = COCOeval(truth, found, "bbox")
            evaluation.params.maxDets = self._limits
            evaluation.evaluate()
            evaluation.accumulate()
        numbers = _summary(evaluation)
        self.classes = self._by_class(evaluation)
        return numbers | {f"AP/{one.name}": one.ap for one in self.classes}

    def _by_class(self, evaluation: COCOeval) -> tuple[ClassResult, ...]:
        names = _shown_names(self._content["categories"])
        counts = Counter(entry["category_id"] for entry in self._content["annotations"] if not entry["iscrowd"])
        thresholds = [round(float(threshold), 2) for threshold in evaluation.params.iouThrs]
        precision = evaluation.eval["precision"]  # [IoU thresholds, recalls, classes, areas, detection limits]
        found = []
        for position, category_id in enumerate(evaluation.params.catIds):
            curves = precision[:, :, position, 0, -1]  # all sizes, the largest detection limit
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
        return [
            {**record, "id": number, "area": record["bbox"][2] * record["bbox"][3], "iscrowd": 0}
            for number, record in enumerate(self.known_results(), start=1)
        ]


def _summary(evaluation: COCOeval) -> dict[str, float]:
    """The metrics of ``COCOeval.summarize``, which supports no detection limit but 100 for AP."""
    precision = evaluation.eval["precision"]  # [IoU thresholds, recalls, classes, areas, detection limits]
    recall = evaluation.eval["recall"]  # the same without recalls
    thresholds = [round(float(threshold), 2) for threshold in evaluation.params.iouThrs]
    sizes = list(zip("sml", range(1, 4), strict=True))  # area 0 is all sizes
    numbers = {"AP": _mean(precision[..., 0, -1])}
    numbers |= {f"AP{100 * at:.0f}": _mean(precision[thresholds.index(at), ..., 0, -1]) for at in CURVE_THRESHOLDS}
    numbers |= {f"AP{name}": _mean(precision[..., area, -1]) for name, area in sizes}
    limits = enumerate(evaluation.params.maxDets)
    numbers |= {f"AR{limit}": _mean(recall[..., 0, position]) for position, limit in limits}
    return numbers | {f"AR{name}": _mean(recall[..., area, -1]) for name, area in sizes}


def _mean(values: np.ndarray) -> float:
    """The mean of the values that pycocotools computed; -1 if there are none."""
    counted = values[values > -1]
    return float(counted.mean()) if counted.size else -1.0


def _completed(content: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with all fields that pycocotools reads, and annotation ids from 1 (pycocotools reads 0 as no match)."""
    annotations = [
        {**entry, "id": number, "area": _area(entry), "iscrowd": int(is_crowd(entry))}
        for number, entry in enumerate(content["annotations"], start=1)
    ]
    categories = [{**category, "name": str(category["name"])} for category in content["categories"]]
    return {"images": content["images"], "annotations": annotations, "categories": categories}


def _area(entry: Mapping[str, Any]) -> float:
    area = entry.get("area")
    width, height = map(float, entry["bbox"][2:])  # float first: the product of huge integers has no float
    return width * height if area is None else float(area)


def _shown_names(categories: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """Names by category id. A name that several categories share is extended by the id, so that no result is lost."""
    counts = Counter(category["name"] for category in categories)
    return {
        category["id"]: f"{category['name']} (id {category['id']})"
        if counts[category["name"]] > 1
        else category["name"]
        for category in categories
    }

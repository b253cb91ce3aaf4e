"""The evaluator of the crowd metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxdet.data.dataset import DataError, DetectionDataset
from jaxdet.data.objects import Objects
from jaxdet.evaluation.crowd.matching import ScoredImage
from jaxdet.evaluation.crowd.metrics import HeadResult, evaluate_heads
from jaxdet.evaluation.results import DetectionResults


class HeadEvaluator(DetectionResults):
    """Evaluates detections against a dataset's ground truth (`jaxdet.data.dataset.Record.truth`).

    Ignored regions, such as COCO's crowds and boxes of a head list with a flag other than 0, count neither as found nor
    as missed. Every image of the dataset counts, with or without boxes or detections.

    Args:
        dataset: a dataset with one class of any name. No images are decoded.
        category_ids: as for `jaxdet.evaluation.CocoEvaluator`; detections of other classes are left out.

    Raises:
        DataError: the dataset has more than one class, or none.
    """

    def __init__(self, dataset: DetectionDataset, *, category_ids: Sequence[int] | None = None) -> None:
        names = dataset.names[1:]
        if len(names) != 1:
            raise DataError(
                f"the crowd metrics need a dataset with one class, and it has {len(names)} ({', '.join(names[:10])}): "
                "use COCO's metrics, or a dataset with one class"
            )
        super().__init__(dataset.image_ids, dataset.category_ids[1:], category_ids)
        self._records = dataset.records
        self.result: HeadResult | None = None  # of the last `evaluate`

    def evaluate(self) -> dict[str, float]:
        """See `jaxdet.evaluation.HeadResult.metrics`."""
        found: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for one in self.known_results():
            found[one["image_id"]].append(one)
        self.result = evaluate_heads(_image(record.truth, found[record.image_id]) for record in self._records)
        return self.result.metrics()

    def table(self) -> str:
        """The counts of the last `evaluate` as text."""
        result = self.result
        if result is None:
            return "nothing was evaluated"
        return (
            f"{result.heads} boxes and {result.ignored} ignored regions on {result.images} images, "
            f"{result.detections} detections"
        )


def _image(truth: Objects, found: list[dict[str, Any]]) -> ScoredImage:
    detections = np.array([one["bbox"] for one in found], np.float64).reshape(-1, 4)
    detections[:, 2:] += detections[:, :2]
    return ScoredImage(truth.boxes, detections, np.array([one["score"] for one in found]), truth.ignored)

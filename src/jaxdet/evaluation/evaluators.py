"""Detection evaluators by the name of their metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from jaxdet.data.dataset import DetectionDataset
from jaxdet.data.formats.coco import ground_truth
from jaxdet.evaluation.coco import MAX_DETS, CocoEvaluator
from jaxdet.evaluation.crowd.evaluator import HeadEvaluator

Metrics = Literal["coco", "crowd"]
METRIC_SETS: tuple[str, ...] = get_args(Metrics)
_NAMES: dict[str, Metrics] = {"coco": "coco", "crowd": "crowd", "heads": "crowd"}  # "heads": the earlier name
Evaluator = CocoEvaluator | HeadEvaluator


def make_evaluator(
    metrics: str,
    dataset: DetectionDataset,
    category_ids: Sequence[int] | None = None,
    *,
    max_dets: int | None = None,
) -> CocoEvaluator | HeadEvaluator:
    """The evaluator of a dataset.

    Args:
        metrics: ``"coco"`` for COCO's twelve metrics, ``"crowd"`` for the crowd metrics (`HeadResult`).
        category_ids: the dataset's category id for each label of the detections.
        max_dets: the ``max_dets`` of `CocoEvaluator`, by default COCO's 100.

    Raises:
        DataError: the metrics do not support this dataset.
        ValueError: the metrics are unknown, or have no ``max_dets``.
    """
    if check_metrics(metrics, max_dets) == "crowd":
        return HeadEvaluator(dataset, category_ids=category_ids)
    return CocoEvaluator(ground_truth(dataset), category_ids=category_ids, max_dets=max_dets or MAX_DETS)


def check_metrics(metrics: str, max_dets: int | None = None) -> Metrics:
    """The current name of the metrics; the earlier name ``"heads"`` becomes ``"crowd"``.

    Raises:
        ValueError: the metrics are unknown, or have no ``max_dets``.
    """
    if metrics not in _NAMES:
        raise ValueError(f"metrics must be one of {', '.join(METRIC_SETS)}, not {metrics!r}")
    name = _NAMES[metrics]
    if max_dets is not None and max_dets < 1:
        raise ValueError(f"max_dets must be at least 1, not {max_dets}")
    if max_dets is not None and name != "coco":
        raise ValueError(
            f"max_dets is an option of COCO's metrics; the {name} metrics count all detections of an image"
        )
    return name

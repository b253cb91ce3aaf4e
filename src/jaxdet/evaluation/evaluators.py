"""The evaluators of detections by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from jaxdet.data.coco import ground_truth
from jaxdet.data.dataset import DetectionDataset
from jaxdet.evaluation.coco import CocoEvaluator
from jaxdet.evaluation.head_evaluator import HeadEvaluator

Metrics = Literal["coco", "heads"]
METRIC_SETS: tuple[str, ...] = get_args(Metrics)
Evaluator = CocoEvaluator | HeadEvaluator


def make_evaluator(
    metrics: Metrics, dataset: DetectionDataset, category_ids: Sequence[int] | None = None
) -> CocoEvaluator | HeadEvaluator:
    """The evaluator of a data set: ``"coco"`` for its twelve numbers, ``"heads"`` for those of `HeadResult`.

    Args:
        category_ids: the data set's category id by label of the detections.

    Raises:
        DataError: the data set is not one for these metrics.
        ValueError: there are no metrics of that name.
    """
    check_metrics(metrics)
    if metrics == "heads":
        return HeadEvaluator(dataset, category_ids=category_ids)
    return CocoEvaluator(ground_truth(dataset), category_ids=category_ids)


def check_metrics(metrics: str) -> None:
    """Raises ValueError where there are no metrics of that name."""
    if metrics not in METRIC_SETS:
        raise ValueError(f"metrics is one of {', '.join(METRIC_SETS)}, not {metrics!r}")

"""The evaluators of detections by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from jaxdet.data.dataset import DetectionDataset
from jaxdet.data.formats.coco import ground_truth
from jaxdet.evaluation.coco import MAX_DETS, CocoEvaluator
from jaxdet.evaluation.head_evaluator import HeadEvaluator

Metrics = Literal["coco", "heads"]
METRIC_SETS: tuple[str, ...] = get_args(Metrics)
Evaluator = CocoEvaluator | HeadEvaluator


def make_evaluator(
    metrics: Metrics,
    dataset: DetectionDataset,
    category_ids: Sequence[int] | None = None,
    *,
    max_dets: int | None = None,
) -> CocoEvaluator | HeadEvaluator:
    """The evaluator of a data set: ``"coco"`` for its twelve numbers, ``"heads"`` for those of `HeadResult`.

    Args:
        category_ids: the data set's category id by label of the detections.
        max_dets: of COCO's metrics, see `CocoEvaluator`; None: its 100.

    Raises:
        DataError: the data set is not one for these metrics.
        ValueError: there are no metrics of that name, or they know no ``max_dets``.
    """
    check_metrics(metrics, max_dets)
    if metrics == "heads":
        return HeadEvaluator(dataset, category_ids=category_ids)
    return CocoEvaluator(ground_truth(dataset), category_ids=category_ids, max_dets=max_dets or MAX_DETS)


def check_metrics(metrics: str, max_dets: int | None = None) -> None:
    """Raises ValueError where there are no metrics of that name, or they cannot be limited so."""
    if metrics not in METRIC_SETS:
        raise ValueError(f"metrics is one of {', '.join(METRIC_SETS)}, not {metrics!r}")
    if max_dets is not None and max_dets < 1:
        raise ValueError(f"max_dets is at least 1, not {max_dets}")
    if max_dets is not None and metrics != "coco":
        raise ValueError(f"max_dets is for COCO's metrics; those of {metrics} count all detections of an image")

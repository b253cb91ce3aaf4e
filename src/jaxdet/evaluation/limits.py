"""Images that hold more objects than a model gives detections, or than COCO's metrics count."""

from __future__ import annotations

import numpy as np

from jaxdet.data.dataset import DetectionDataset
from jaxdet.evaluation.coco import MAX_DETS


def limit_notes(
    dataset: DetectionDataset, detections_per_img: int, *, metrics: str = "coco", max_dets: int | None = None
) -> list[str]:
    """A line for each limit because of which objects must stay missed, whatever the model finds; mostly none.

    Args:
        detections_per_img: of the model, over all classes.
        metrics, max_dets: as for `jaxdet.evaluation.make_evaluator`.
    """
    labels = [record.truth.labels for record in dataset.records]
    objects = [len(found) for found in labels]
    of_a_class = [int(np.bincount(found).max(initial=0)) for found in labels]
    limit = max_dets or MAX_DETS
    notes = []
    if metrics == "coco" and any(count > limit for count in of_a_class):
        notes.append(
            f"{_images(of_a_class, limit)} more than {limit} objects of a class (up to {max(of_a_class)}), and AP and "
            f"AR count the {limit} best detections of a class on an image: the others count as missed. "
            f"max_dets={max(of_a_class)} (evaluate --max-dets) counts all"
        )
    if any(count > detections_per_img for count in objects):
        notes.append(
            f"{_images(objects, detections_per_img)} more than {detections_per_img} objects (up to {max(objects)}), "
            f"and the model gives at most box_detections_per_img={detections_per_img} detections of an image"
        )
    return notes


def _images(counts: list[int], limit: int) -> str:
    number = sum(count > limit for count in counts)
    return "1 image holds" if number == 1 else f"{number} images hold"

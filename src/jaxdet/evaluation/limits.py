"""Notes on images with more objects than the model's or COCO's limit of detections."""

from __future__ import annotations

import numpy as np

from jaxdet.data.dataset import DetectionDataset
from jaxdet.evaluation.coco import MAX_DETS


def limit_notes(
    dataset: DetectionDataset, detections_per_img: int, *, metrics: str = "coco", max_dets: int | None = None
) -> list[str]:
    """A line for each limit that makes some objects count as missed, whatever the model detects.

    Args:
        detections_per_img: the model's limit of detections per image, over all classes.
        metrics, max_dets: as for `jaxdet.evaluation.make_evaluator`.
    """
    labels = [record.truth.labels for record in dataset.records]
    objects = [len(found) for found in labels]
    per_class = [int(np.bincount(found).max(initial=0)) for found in labels]
    limit = max_dets or MAX_DETS
    notes = []
    if metrics == "coco" and any(count > limit for count in per_class):
        notes.append(
            f"{_images(per_class, limit)} more than {limit} objects of a class (up to {max(per_class)}), but AP and AR "
            f"use at most {limit} detections per class and image: the others count as missed. "
            f"max_dets={max(per_class)} (evaluate --max-dets) counts all"
        )
    if any(count > detections_per_img for count in objects):
        notes.append(
            f"{_images(objects, detections_per_img)} more than {detections_per_img} objects (up to {max(objects)}), "
            f"but the model returns at most box_detections_per_img={detections_per_img} detections per image"
        )
    return notes


def _images(counts: list[int], limit: int) -> str:
    number = sum(count > limit for count in counts)
    return "1 image has" if number == 1 else f"{number} images have"

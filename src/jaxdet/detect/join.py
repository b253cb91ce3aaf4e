"""Writing detections as COCO-style JSON and as MOTChallenge text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxdet.detect.parts import Found
from jaxdet.evaluation.mot import Frame, FrameDetections, write_mot
from jaxdet.paths import write_text

DETECTIONS = "detections.json"


def write_coco(path: Path, per_image: Sequence[Found], names: Sequence[str], num_classes: int) -> int:
    """Writes ``images``, ``annotations`` and ``categories``, and returns the number of detections.

    Args:
        per_image: the results in order. The id of an image is its position, from 1. Images that could not be read are
            left out.
        names: class names by label, the background first; may be empty.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, one in enumerate(per_image, start=1):
        if one.error:
            continue
        images.append({"id": number, "file_name": one.file, "height": one.size[0], "width": one.size[1]})
        for record in _to_records(number, one, names):
            annotations.append({"id": len(annotations) + 1, **record})
    class_names = names or [f"class {label}" for label in range(num_classes)]
    categories = [{"id": label, "name": name} for label, name in enumerate(class_names) if label > 0]
    write_text(path, json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return len(annotations)


def write_mot_files(folder: Path, per_image: Sequence[Found], frames: Sequence[Frame], label: int) -> list[Path]:
    """Writes the detections of one class, one file per sequence (`jaxdet.evaluation.mot.write_mot`).

    Args:
        frames: the sequence and number of each image.
        label: the class.
    """
    found = {}
    for one, frame in zip(per_image, frames, strict=True):
        if one.boxes is not None and one.labels is not None and one.scores is not None:
            selected = one.labels == label
            found[frame] = FrameDetections(one.boxes[selected], one.scores[selected])
    return write_mot(folder, found)


def _to_records(image_id: int, one: Found, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The detections of an image as COCO records; ``bbox`` is (x, y, width, height) in pixels of the image."""
    assert one.boxes is not None and one.labels is not None and one.scores is not None
    for (x1, y1, x2, y2), label, score in zip(one.boxes, one.labels, one.scores, strict=True):
        yield {
            "image_id": image_id,
            "category_id": int(label),
            "bbox": [round(float(value), 3) for value in (x1, y1, x2 - x1, y2 - y1)],
            "area": round(float((x2 - x1) * (y2 - y1)), 3),
            "iscrowd": 0,
            "score": round(float(score), 5),
            **({"name": names[label]} if names else {}),
        }

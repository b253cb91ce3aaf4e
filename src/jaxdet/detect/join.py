"""The files that detections end up in: COCO-style JSON, and MOTChallenge text."""

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
    """Writes ``images``, ``annotations`` and ``categories``; how many detections there are.

    Args:
        per_image: in order; an image's id is its position, from 1, and those that could not be read are left out.
        names: of the classes by label, the background first; may be empty.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, one in enumerate(per_image, start=1):
        if one.error:
            continue
        images.append({"id": number, "file_name": one.file, "height": one.size[0], "width": one.size[1]})
        for record in _records(number, one, names):
            annotations.append({"id": len(annotations) + 1, **record})
    known = names or [f"class {label}" for label in range(num_classes)]
    categories = [{"id": label, "name": name} for label, name in enumerate(known) if label > 0]
    write_text(path, json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return len(annotations)


def write_mot_files(folder: Path, per_image: Sequence[Found], frames: Sequence[Frame], label: int) -> list[Path]:
    """Writes a file a sequence (`jaxdet.evaluation.mot.write_mot`) with the detections of one class.

    Args:
        frames: of the images.
    """
    found = {}
    for one, frame in zip(per_image, frames, strict=True):
        if one.boxes is not None and one.labels is not None and one.scores is not None:
            own = one.labels == label
            found[frame] = FrameDetections(one.boxes[own], one.scores[own])
    return write_mot(folder, found)


def _records(image_id: int, one: Found, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Detections as COCO's records: ``bbox`` is (x, y, width, height) in the image's pixels."""
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

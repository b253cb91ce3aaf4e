"""Placement of the labels of boxes on an image, so that they hide neither small objects nor each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_GOOD = 0.2  # up to this cost, no smaller text is tried
_HIDDEN = 0.5  # a label must not hide more than this fraction of another label or box
_OVER_LABELS, _OVER_BOXES, _LATER = 4.0, 1.0, 0.01  # costs of hidden labels, hidden boxes, and later candidates


class Place(NamedTuple):
    """The place of a label. choice: the index of its extent; x, y: the upper left corner in pixels."""

    choice: int
    x: int
    y: int


def place_labels(
    boxes: np.ndarray, extents: Sequence[Sequence[tuple[int, int]]], size: tuple[int, int]
) -> list[Place | None]:
    """The place of each label, next to its box or inside it; None if every place would hide another label or box.

    Labels are placed in order. Each is placed where it hides the least of earlier labels and of all boxes, measured by
    the hidden fraction of each: hiding a corner of a large box costs little, hiding a whole small box costs much.
    Places above the box are preferred, then below, beside and inside. Smaller text is tried if larger text would hide
    too much.

    Args:
        boxes: [D, 4] xyxy in pixels, the most important first.
        extents: for each label, its possible (width, height), from the fullest text to the shortest.
        size: (width, height) of the image. Labels stay inside it.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    box_areas = np.maximum(_areas(boxes), 1.0)
    taken = np.zeros((0, 4))
    places: list[Place | None] = []
    for box, choices in zip(boxes, extents, strict=True):
        others = np.where((boxes == box).all(1), 0.0, 1 / box_areas)  # a label may hide its own box
        best: tuple[float, float, Place, np.ndarray] | None = None
        for choice, extent in enumerate(choices):
            spots = _candidates(box, extent, size)
            area = float(extent[0] * extent[1])
            hidden = _overlaps(spots, taken) / np.minimum(area, np.maximum(_areas(taken), 1.0))
            covered = _overlaps(spots, boxes) / box_areas
            costs = _OVER_LABELS * hidden.sum(1) + _OVER_BOXES * covered.sum(1) + _LATER * np.arange(len(spots))
            number = int(costs.argmin())
            if best is None or costs[number] < best[0]:
                x, y = spots[number, :2]
                worst = max(hidden[number].max(initial=0.0), (covered[number] * box_areas * others).max(initial=0.0))
                best = float(costs[number]), float(worst), Place(choice, int(x), int(y)), spots[number]
            if best[0] <= _GOOD:
                break
        if best is None or best[1] > _HIDDEN:
            places.append(None)
            continue
        places.append(best[2])
        taken = np.concatenate([taken, best[3][None]])
    return places


def _candidates(box: np.ndarray, extent: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """[C, 4] xyxy: the possible places in the image, in order of preference."""
    (x1, y1, x2, y2), (width, height) = box, extent
    middle = (x1 + x2 - width) / 2
    corners = np.array(
        [
            (x1, y1 - height), (x2 - width, y1 - height), (middle, y1 - height),  # above
            (x1, y2), (x2 - width, y2), (middle, y2),  # below
            (x2, y1), (x2, y2 - height), (x1 - width, y1), (x1 - width, y2 - height),  # beside
            (x1, y1), (x2 - width, y1), (x1, y2 - height), (x2 - width, y2 - height),  # inside
        ]
    )  # fmt: skip
    room = np.maximum(np.array(size) - extent, 0)
    corners = np.clip(np.round(corners), 0, room)
    return np.concatenate([corners, corners + extent], axis=1)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[A, B]: the intersection area of each pair."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    return np.clip(high - low, 0, None).prod(-1)

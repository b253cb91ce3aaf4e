"""Gaussian soft-NMS one box after the other, on plain numbers; every box keeps its own decayed score."""

from __future__ import annotations

import math
from collections.abc import Sequence

Box = Sequence[float]


def overlap(a: Box, b: Box, extra: float) -> float:
    """IoU with every side ``extra`` longer."""
    sides = [max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i]) + extra) for i in (0, 1)]
    areas = [(box[2] - box[0] + extra) * (box[3] - box[1] + extra) for box in (a, b)]
    shared = sides[0] * sides[1]
    return shared / (sum(areas) - shared)


def soft_nms(
    boxes: Sequence[Box], scores: Sequence[float], *, sigma: float = 0.25, threshold: float = 0.001, extra: float = 1.0
) -> tuple[list[int], list[float]]:
    """Rows of the boxes that are kept and their scores, in the order of their selection.

    The best box left is taken; all others lose ``1 - exp(-IoU ** 2 / sigma)`` of their scores; those that are left
    with less than ``threshold`` go.
    """
    left = {row: float(score) for row, score in enumerate(scores) if score > threshold}
    rows, decayed = [], []
    while left:
        best = max(left, key=lambda row: left[row])
        rows.append(best)
        decayed.append(left.pop(best))
        for row in list(left):
            left[row] *= math.exp(-(overlap(boxes[best], boxes[row], extra) ** 2) / sigma)
            if left[row] <= threshold:
                del left[row]
    return rows, decayed

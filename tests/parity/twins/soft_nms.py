"""Gaussian soft-NMS one box after the other, in float64; every box keeps its own decayed score."""

from __future__ import annotations

import numpy as np


def overlap(box: np.ndarray, boxes: np.ndarray, extra: float) -> np.ndarray:
    """IoU of ``box [4]`` with ``boxes [N, 4]`` where every side is ``extra`` longer, ``[N]``."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]) + extra
    shared = np.maximum(sides, 0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2] + extra).prod(1)
    return shared / (areas + (box[2:] - box[:2] + extra).prod() - shared)


def soft_nms(
    boxes: np.ndarray, scores: np.ndarray, *, sigma: float = 0.25, threshold: float = 0.001, extra: float = 1.0
) -> tuple[list[int], list[float]]:
    """Rows of ``boxes [N, 4]`` that are kept and their decayed scores, in the order of their selection.

    The best box left is taken, and all others keep ``exp(-IoU ** 2 / sigma)`` of their scores; once no score is above
    the threshold, nothing more is taken.
    """
    boxes, left = boxes.astype(np.float64), scores.astype(np.float64)
    rows: list[int] = []
    decayed: list[float] = []
    while left.max(initial=0) > threshold:
        best = int(left.argmax())
        rows.append(best)
        decayed.append(float(left[best]))
        left = left * np.exp(-(overlap(boxes[best], boxes, extra) ** 2) / sigma)
        left[rows] = 0
    return rows, decayed

"""Which detections of two runs are the same ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxdet_convert.parity.report import BOX_BOUND, SCORE_BOUND


@dataclass(frozen=True, eq=False)
class Boxes:
    """``boxes [D, 4]``, ``scores [D]``, ``labels [D]``; scores may be unknown (NaN)."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def match(theirs: Boxes, ours: Boxes) -> list[tuple[int, int]]:
    """Pairs (row of theirs, row of ours), each row once: equal labels, boxes and scores within the bounds.

    By decreasing score, each takes the nearest partner left; unknown scores fit every score.
    """
    pairs: list[tuple[int, int]] = []
    free = np.ones(len(ours.boxes), bool)
    for row in range(len(theirs.boxes)):
        apart = np.abs(ours.boxes - theirs.boxes[row]).max(axis=1, initial=0)  # [D]
        score = np.abs(ours.scores - theirs.scores[row])
        fits = free & (ours.labels == theirs.labels[row]) & (apart <= BOX_BOUND) & ~(score > SCORE_BOUND)
        if fits.any():
            best = int(np.argmin(np.where(fits, apart, np.inf)))
            free[best] = False
            pairs.append((row, best))
    return pairs


def iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """IoU of ``box [4]`` with ``boxes [N, 4]``, ``[N]``."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.maximum(sides, 0).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)

"""Matching the detections of two implementations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxdet_convert.parity.report import BOX_BOUND, SCORE_BOUND, Matching, Unmatched

PYTORCH, JAXDET = "PyTorch", "jaxdet"


@dataclass(frozen=True, eq=False)
class Boxes:
    """``boxes [D, 4]``, ``scores [D]``, ``labels [D]``. Scores may be NaN: unknown."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def match(theirs: Boxes, ours: Boxes) -> list[tuple[int, int]]:
    """Pairs (row of theirs, row of ours) with equal labels, and boxes and scores within the bounds.

    In the order of ``theirs``, each box is matched to the nearest remaining one. Unknown scores match every score.
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


def matching(theirs: Boxes, ours: Boxes, judge: Callable[[str, Boxes, int], Unmatched]) -> Matching:
    """Matches the detections of both sides.

    Args:
        judge: (side, its boxes, row) -> the explanation of an unmatched box.
    """
    pairs = match(theirs, ours)
    rows = np.asarray(pairs, np.int64).reshape(-1, 2)
    unmatched = tuple(judge(side, found, row) for side, found, row in unmatched_rows(theirs, ours, rows))
    box_error = np.abs(theirs.boxes[rows[:, 0]] - ours.boxes[rows[:, 1]]).max(initial=0)
    score_error = np.abs(theirs.scores[rows[:, 0]] - ours.scores[rows[:, 1]]).max(initial=0)
    return Matching(len(theirs.boxes), len(ours.boxes), len(pairs), float(box_error), float(score_error), unmatched)


def unmatched_rows(theirs: Boxes, ours: Boxes, rows: np.ndarray) -> list[tuple[str, Boxes, int]]:
    """Side, its boxes and the row of each unmatched box. ``rows [N, 2]``: the matched pairs."""
    return [
        (side, found, int(row))
        for column, (side, found) in enumerate(((PYTORCH, theirs), (JAXDET, ours)))
        for row in np.setdiff1d(np.arange(len(found.boxes)), rows[:, column])
    ]


def other_side(side: str) -> str:
    return JAXDET if side == PYTORCH else PYTORCH


def unmatched(image: int, side: str, label: int, score: float, box: np.ndarray, cause: Any) -> Unmatched:
    """An unmatched box with its `jaxdet_convert.parity.ties.Cause`."""
    corners = tuple(float(value) for value in box)
    return Unmatched(image, side, int(label), float(score), corners, cause.text, cause.near_tie)


def iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """IoU of ``box [4]`` with ``boxes [N, 4]``, ``[N]``."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.maximum(sides, 0).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)

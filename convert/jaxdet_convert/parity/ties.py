"""Explaining why only one side kept a box: a near-tie with its values, or no explanation.

All selections of detectors have the same steps: a threshold, a maximum number of candidates, NMS within groups, and a
maximum number of results. A `Selection` contains the candidates and results of one side, recomputed in float64 from its
outputs (`jaxdet_convert.parity.selections`). Its keys identify the same candidates on both sides. `explain` compares
two selections.

A different decision may cause others: the additional box suppresses another one, or replaces the last result. Such
chains are followed to the first decision, which has to be a near-tie.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxdet_convert.parity.match import iou
from jaxdet_convert.parity.report import TIE_BOUND

_BOX_BOUND = 0.1  # pixels of the model's input; larger differences are not due to rounding


@dataclass(frozen=True, eq=False)
class Selection:
    """Candidates by decreasing score, and which of them were kept. Axis: N candidates."""

    keys: np.ndarray  # [N]
    groups: np.ndarray  # [N], only boxes of equal groups suppress each other
    boxes: np.ndarray  # [N, 4] float64, pixels of the model's input
    scores: np.ndarray  # [N] float64
    cuts: np.ndarray  # [N], the minimum score of a candidate (a threshold, or the last of a top-k)
    kept: np.ndarray  # [N] bool
    nms_thresh: float
    limit: int

    def row(self, key: int) -> int | None:
        rows = np.flatnonzero(self.keys == key)
        return int(rows[0]) if len(rows) else None

    def kept_key(self, label: int, score: float, box: np.ndarray, classes: int) -> int | None:
        """The key of the kept candidate with this label and the nearest score; of equal scores, the nearest box.

        Args:
            box: ``[4]``, in the pixels of `boxes`.
            classes: the number of classes; ``key % classes`` is the label.
        """
        rows = np.flatnonzero(self.kept & (self.keys % classes == label))
        if not len(rows):
            return None
        apart = np.abs(self.scores[rows] - score)
        rows = rows[apart <= apart.min() + TIE_BOUND]
        return int(self.keys[rows[np.argmin(np.abs(self.boxes[rows] - box).max(axis=1))]])


@dataclass(frozen=True)
class Cause:
    """Why a box was not kept. ``near_tie``: whether rounding can change the decision."""

    text: str
    near_tie: bool


UNKNOWN = Cause("no explanation", False)


def explain(key: int, mine: Selection, theirs: Selection, seen: frozenset[tuple[int, int]] = frozenset()) -> Cause:
    """Explains why ``theirs`` did not keep the candidate ``key``, which ``mine`` kept."""
    here, there = mine.row(key), theirs.row(key)
    if here is None or there is None or (key, id(mine)) in seen:
        return UNKNOWN
    seen |= {(key, id(mine))}
    score, cut = theirs.scores[there], theirs.cuts[there]
    if abs(score - mine.scores[here]) > TIE_BOUND * max(1, abs(score)):
        return Cause(f"its score is {score:.7f}, but {mine.scores[here]:.7f} on the other side", False)
    if (apart := np.abs(theirs.boxes[there] - mine.boxes[here]).max()) > _BOX_BOUND:
        return Cause(f"its boxes on the two sides differ by {apart:.2f} px", False)
    if abs(score - cut) <= TIE_BOUND:
        return Cause(f"its score {score:.7f} is {score - cut:+.1e} from {cut:.7f}, the minimum of candidates", True)
    if score < cut:
        return UNKNOWN
    suppressed = _explain_suppression(here, there, mine, theirs, seen)
    return suppressed if suppressed is not None else _explain_limit(here, there, mine, theirs, seen)


def _explain_suppression(
    here: int, there: int, mine: Selection, theirs: Selection, seen: frozenset[tuple[int, int]]
) -> Cause | None:
    """Explains a suppression by a kept box of the same group; None if there is no such box."""
    rivals = np.flatnonzero(theirs.kept & (theirs.groups == theirs.groups[there]))
    rivals = rivals[(rivals != there) & (theirs.scores[rivals] >= theirs.scores[there])]
    overlap = iou(theirs.boxes[there], theirs.boxes[rivals])
    margin = overlap - theirs.nms_thresh
    sure = [*np.flatnonzero(margin > TIE_BOUND)]
    for index in sure:
        rival = rivals[index]
        gap = theirs.scores[rival] - theirs.scores[there]
        if gap <= TIE_BOUND:
            continue  # their order is a near-tie
        cause = explain(int(theirs.keys[rival]), theirs, mine, seen)
        if not cause.near_tie:
            return Cause(f"suppressed by a box (IoU {overlap[index]:.4f}), without an explanation for that box", False)
        return Cause(f"suppressed by a box that the other side does not have: {cause.text}", True)
    if sure:
        rival = rivals[sure[0]]
        return Cause(
            f"its score {theirs.scores[there]:.7f} and that of an overlapping box, {theirs.scores[rival]:.7f}, "
            f"differ by {theirs.scores[rival] - theirs.scores[there]:.1e}, so that either may be first",
            True,
        )
    close = np.flatnonzero(np.abs(margin) <= TIE_BOUND)
    if not len(close):
        return None
    rival = rivals[close[np.argmax(margin[close])]]
    ours = mine.row(int(theirs.keys[rival]))
    other = "" if ours is None else f", {iou(mine.boxes[here], mine.boxes[[ours]])[0]:.7f} on the other side"
    return Cause(
        f"its IoU with a kept box is {iou(theirs.boxes[there], theirs.boxes[[rival]])[0]:.7f}{other}, "
        f"and the NMS threshold {theirs.nms_thresh:g}",
        True,
    )


def _explain_limit(
    here: int, there: int, mine: Selection, theirs: Selection, seen: frozenset[tuple[int, int]]
) -> Cause:
    """Explains a box after the maximum number of results."""
    if theirs.kept.sum() < theirs.limit:
        return UNKNOWN
    last, score = theirs.scores[theirs.kept].min(), theirs.scores[there]
    if abs(score - last) <= TIE_BOUND:
        return Cause(f"its score {score:.7f} is {score - last:+.1e} from {last:.7f}, the last of {theirs.limit}", True)
    if score > last:
        return UNKNOWN
    kept_here = set(mine.keys[mine.kept].tolist())
    extra = [key for key in theirs.keys[theirs.kept].tolist() if key not in kept_here]
    before = int((mine.kept & (mine.scores > mine.scores[here])).sum())
    causes = [explain(key, theirs, mine, seen) for key in extra]
    if not extra or before + len(extra) < theirs.limit or not all(cause.near_tie for cause in causes):
        return UNKNOWN
    return Cause(
        f"not among the best {theirs.limit} because of a box that the other side does not have: {causes[0].text}", True
    )

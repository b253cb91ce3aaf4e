"""Why one side kept a box that the other did not: a near-tie with its numbers, or nothing that explains it.

All stages of detectors select alike: a threshold, at most so many candidates, NMS within a group, at most so many
results. A `Selection` is one side's view of one of them, worked out again in float64 from what that side computed
(`jaxdet_convert.parity.selections`); its items bear keys that mean the same on both sides. `explain` compares two.

A decision that fell otherwise may lead to others: the box that was kept suppresses a third one, or pushes the last one
out. Such a chain is followed to the decision it began with, which has to be the near-tie.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxdet_convert.parity.match import iou
from jaxdet_convert.parity.report import TIE_BOUND

_BOX_BOUND = 0.1  # pixels of the model's input: beyond it two boxes are not one box rounded twice


@dataclass(frozen=True, eq=False)
class Selection:
    """Candidates by decreasing score, and which of them were kept. Axis: N candidates."""

    keys: np.ndarray  # [N]
    groups: np.ndarray  # [N]: only equal ones suppress each other
    boxes: np.ndarray  # [N, 4] float64, pixels of the model's input
    scores: np.ndarray  # [N] float64
    cuts: np.ndarray  # [N]: the score at which a candidate enters (a threshold, or the last of a top-k)
    kept: np.ndarray  # [N] bool
    nms_thresh: float
    limit: int

    def row(self, key: int) -> int | None:
        rows = np.flatnonzero(self.keys == key)
        return int(rows[0]) if len(rows) else None

    def kept_key(self, label: int, score: float, classes: int) -> int | None:
        """The key of the kept candidate of this label that is nearest in score, where keys end in a label.

        Args:
            classes: how many labels there are.
        """
        rows = np.flatnonzero(self.kept & (self.keys % classes == label))
        return int(self.keys[rows[np.argmin(np.abs(self.scores[rows] - score))]]) if len(rows) else None


@dataclass(frozen=True)
class Cause:
    """Why a box was not kept; ``near_tie``: the numbers said show a decision that rounding can turn."""

    text: str
    near_tie: bool


UNKNOWN = Cause("nothing explains it", False)


def explain(key: int, mine: Selection, theirs: Selection, seen: frozenset[tuple[int, int]] = frozenset()) -> Cause:
    """Why ``theirs`` did not keep the candidate ``key`` that ``mine`` kept."""
    here, there = mine.row(key), theirs.row(key)
    if here is None or there is None or (key, id(mine)) in seen:
        return UNKNOWN
    seen |= {(key, id(mine))}
    score, cut = theirs.scores[there], theirs.cuts[there]
    if abs(score - mine.scores[here]) > TIE_BOUND * max(1, abs(score)):
        return Cause(f"its score is {score:.7f}, and {mine.scores[here]:.7f} on the other side", False)
    if (apart := np.abs(theirs.boxes[there] - mine.boxes[here]).max()) > _BOX_BOUND:
        return Cause(f"its box lies {apart:.2f} px from where it lies on the other side", False)
    if abs(score - cut) <= TIE_BOUND:
        return Cause(f"its score {score:.7f} is {score - cut:+.1e} from {cut:.7f}, where candidates begin", True)
    if score < cut:
        return UNKNOWN
    suppressed = _suppressed(here, there, mine, theirs, seen)
    return suppressed if suppressed is not None else _pushed_out(here, there, mine, theirs, seen)


def _suppressed(
    here: int, there: int, mine: Selection, theirs: Selection, seen: frozenset[tuple[int, int]]
) -> Cause | None:
    """By a kept box of its group that no longer stands above it, or not as close, on the other side."""
    rivals = np.flatnonzero(theirs.kept & (theirs.groups == theirs.groups[there]))
    rivals = rivals[(rivals != there) & (theirs.scores[rivals] >= theirs.scores[there])]
    overlap = iou(theirs.boxes[there], theirs.boxes[rivals])
    margin = overlap - theirs.nms_thresh
    sure = [*np.flatnonzero(margin > TIE_BOUND)]
    for index in sure:
        rival = rivals[index]
        gap = theirs.scores[rival] - theirs.scores[there]
        if gap <= TIE_BOUND:
            continue  # which of the two goes first is a tie itself
        cause = explain(int(theirs.keys[rival]), theirs, mine, seen)
        if not cause.near_tie:
            return Cause(f"suppressed by a box (IoU {overlap[index]:.4f}) whose part is not explained", False)
        return Cause(f"suppressed by a box that the other side lacks, because there {cause.text}", True)
    if sure:
        rival = rivals[sure[0]]
        return Cause(
            f"its score {theirs.scores[there]:.7f} and that of a box it overlaps with, {theirs.scores[rival]:.7f}, "
            f"stand {theirs.scores[rival] - theirs.scores[there]:.1e} apart, so either may go first",
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


def _pushed_out(here: int, there: int, mine: Selection, theirs: Selection, seen: frozenset[tuple[int, int]]) -> Cause:
    """By as many boxes as are kept at most."""
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
    return Cause(f"pushed beyond the {theirs.limit} best by a box that the other side lacks: {causes[0].text}", True)

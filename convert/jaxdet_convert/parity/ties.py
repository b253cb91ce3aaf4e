"""Why one side kept a box that the other did not: a near-tie with its numbers, or nothing that explains it.

Both stages of a detector select alike: a threshold, at most so many candidates, NMS within a group, at most so many
results. A `Selection` is one side's view of one of them, worked out again here in float64 from what that side computed;
its items bear keys that mean the same on both sides. `explain` compares two of them.

A decision that fell otherwise may lead to others: the box that was kept suppresses a third one, or pushes the last one
out. Such a chain is followed to the decision it began with, which has to be the near-tie.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from jaxdet.heads.roi_pool import CANONICAL_LEVEL, CANONICAL_SIZE
from jaxdet.models import FasterRCNNConfig
from jaxdet.ops.box_coder import BoxCoder
from jaxdet_convert.parity.match import iou
from jaxdet_convert.parity.report import TIE_BOUND

_MARGIN = 64  # candidates beyond the limit of a level that are looked at
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


def rpn_selection(
    logits: list[np.ndarray], deltas: list[np.ndarray], anchors: np.ndarray, size: tuple[int, int],
    proposals: np.ndarray, config: FasterRCNNConfig,
) -> Selection:  # fmt: skip
    """The first stage: keys are anchors, groups levels; scores are logits, so that saturation makes no ties.

    Args:
        logits, deltas: a level ``[h, w, A]`` and ``[h, w, A, 4]``; anchors ``[N, 4]`` of all levels.
        proposals: ``[R, 4]``, what this side kept.
    """
    rpn = config.rpn
    keys, groups, boxes, scores, cuts = [], [], [], [], []
    start = 0
    for level, (logit, delta) in enumerate(zip(logits, deltas, strict=True)):
        values = logit.reshape(-1).astype(np.float64)
        order = np.argsort(-values, kind="stable")
        count = min(rpn.pre_nms_top_n_test, len(order))
        order = order[: count + _MARGIN]
        # With fewer anchors than may enter, nothing is cut off.
        cuts.append(np.full(len(order), values[order[count - 1]] if count < len(values) else -np.inf))
        keys.append(start + order)
        groups.append(np.full(len(order), level))
        scores.append(values[order])
        boxes.append(_decode(delta.reshape(-1, 4)[order], anchors[start + order], BoxCoder(), size))
        start += len(values)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    found = np.concatenate(boxes)[order]
    kept = _rows_of(proposals, found, np.ones((len(proposals), len(order)), bool))
    return Selection(
        keys=np.concatenate(keys)[order],
        groups=np.concatenate(groups)[order],
        boxes=found,
        scores=np.concatenate(scores)[order],
        cuts=np.concatenate(cuts)[order],
        kept=_mask(kept, len(order)),
        nms_thresh=rpn.nms_thresh,
        limit=rpn.post_nms_top_n_test,
    )


def box_selection(
    logits: np.ndarray, deltas: np.ndarray, proposals: np.ndarray, anchors: np.ndarray, size: tuple[int, int],
    detections: tuple[np.ndarray, np.ndarray, np.ndarray], config: FasterRCNNConfig,
) -> Selection:  # fmt: skip
    """The second stage: keys are (anchor of the proposal, class), groups classes.

    Args:
        anchors: ``[R]``, the key of each proposal in the first stage.
        detections: boxes ``[D, 4]`` in pixels of the model's input, scores and labels: what this side kept.
    """
    box, classes = config.box, config.num_classes
    exponent = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    scores = exponent / exponent.sum(axis=1, keepdims=True)  # [R, K]
    rows, labels = np.nonzero(scores[:, 1:] > box.score_thresh - 10 * TIE_BOUND)
    labels = labels + 1
    order = np.argsort(-scores[rows, labels], kind="stable")
    rows, labels = rows[order], labels[order]
    found = _decode(deltas[rows, labels], proposals[rows], BoxCoder(box.reg_weights), size)
    kept_boxes, kept_scores, kept_labels = detections
    same = (labels[None] == kept_labels[:, None]) & (np.abs(scores[rows, labels][None] - kept_scores[:, None]) < 1e-5)
    return Selection(
        keys=anchors[rows] * classes + labels,
        groups=np.zeros_like(labels) if box.class_agnostic_nms else labels,
        boxes=found,
        scores=scores[rows, labels],
        cuts=np.full(len(rows), box.score_thresh),
        kept=_mask(_rows_of(kept_boxes, found, same), len(rows)),
        nms_thresh=box.nms_thresh,
        limit=box.detections_per_img,
    )


def on_level_boundary(box: np.ndarray) -> bool:
    """Whether rounding may pool this proposal ``[4]`` from another level."""
    side = math.sqrt(max(float((box[2] - box[0]) * (box[3] - box[1])), 1e-12))
    level = CANONICAL_LEVEL + math.log2(side / CANONICAL_SIZE) + 1e-6
    return abs(level - round(level)) <= 1e-5


def nearest_rows(boxes: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """For each of ``boxes [M, 4]`` the nearest of ``candidates [N, 4]``, each at most once, ``[M]``."""
    return _rows_of(boxes, candidates, np.ones((len(boxes), len(candidates)), bool))


def _rows_of(boxes: np.ndarray, candidates: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    free = np.ones(len(candidates), bool)
    rows = np.zeros(len(boxes), np.int64)
    for number, box in enumerate(boxes):
        apart = np.abs(candidates - box).max(axis=1)
        rows[number] = np.argmin(np.where(allowed[number] & free, apart, np.inf))
        free[rows[number]] = False
    return rows


def _mask(rows: np.ndarray, count: int) -> np.ndarray:
    mask = np.zeros(count, bool)
    mask[rows] = True
    return mask


def _decode(deltas: np.ndarray, boxes: np.ndarray, coder: BoxCoder, size: tuple[int, int]) -> np.ndarray:
    """`BoxCoder.decode` and clipping in float64, ``[N, 4]``."""
    deltas = deltas.astype(np.float64) / np.asarray(coder.weights)
    boxes = boxes.astype(np.float64)
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = boxes[:, :2] + sides / 2 + deltas[:, :2] * sides
    half = sides * np.exp(np.minimum(deltas[:, 2:], coder.bbox_xform_clip)) / 2
    found = np.concatenate([centres - half, centres + half], axis=1)
    limits = np.asarray([size[1], size[0]] * 2, np.float64)
    return np.clip(found, 0, limits)

"""Recomputing the selections of a detector in float64 from the outputs of one side.

Axes: (h, w) the map of a level, A anchors per location, N anchors of all levels, R proposals, K classes, D detections.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxdet.heads.roi_pool import CANONICAL_LEVEL, CANONICAL_SIZE
from jaxdet.ops.box_coder import BoxCoder
from jaxdet_convert.parity.report import TIE_BOUND
from jaxdet_convert.parity.ties import Selection

Decode = Callable[[np.ndarray, np.ndarray, tuple[int, int]], np.ndarray]
"""(deltas, anchors, image size) -> boxes in float64, clipped to the image, ``[N, 4]``."""

_MARGIN = 64  # candidates per level that are also considered beyond the limit


def rpn_selection(
    logits: list[np.ndarray], deltas: list[np.ndarray], anchors: np.ndarray, size: tuple[int, int],
    proposals: np.ndarray, config: Any,
) -> Selection:  # fmt: skip
    """The selection of proposals. Keys are anchors, groups are levels. Scores are logits, which do not saturate.

    Args:
        logits, deltas: per level ``[h, w, A]`` and ``[h, w, A, 4]``.
        anchors: ``[N, 4]``.
        proposals: ``[R, 4]``, the ones that this side kept.
    """
    rpn = config.rpn
    keys, groups, boxes, scores, cuts = [], [], [], [], []
    start = 0
    for level, (logit, delta) in enumerate(zip(logits, deltas, strict=True)):
        values = logit.reshape(-1).astype(np.float64)
        order = np.argsort(-values, kind="stable")
        count = min(rpn.pre_nms_top_n_test, len(order))
        order = order[: count + _MARGIN]
        # A level with fewer anchors than the limit has no cut.
        cuts.append(np.full(len(order), values[order[count - 1]] if count < len(values) else -np.inf))
        keys.append(start + order)
        groups.append(np.full(len(order), level))
        scores.append(values[order])
        boxes.append(decode(delta.reshape(-1, 4)[order], anchors[start + order], size, coder=BoxCoder()))
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
    detections: tuple[np.ndarray, np.ndarray, np.ndarray], config: Any,
) -> Selection:  # fmt: skip
    """The selection of the second stage's detections. Keys are (proposal's anchor, class), groups are classes.

    Args:
        anchors: ``[R]``, the key of each proposal in `rpn_selection`.
        detections: boxes ``[D, 4]`` in pixels of the model's input, scores and labels that this side kept.
    """
    box, classes = config.box, config.num_classes
    exponent = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    scores = exponent / exponent.sum(axis=1, keepdims=True)  # [R, K]
    rows, labels = np.nonzero(scores[:, 1:] > box.score_thresh - 10 * TIE_BOUND)
    labels = labels + 1
    order = np.argsort(-scores[rows, labels], kind="stable")
    rows, labels = rows[order], labels[order]
    found = decode(deltas[rows, labels], proposals[rows], size, coder=BoxCoder(box.reg_weights))
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


def dense_selection(
    scores: list[np.ndarray], deltas: list[np.ndarray], anchors: np.ndarray, size: tuple[int, int],
    detections: tuple[np.ndarray, np.ndarray, np.ndarray], config: Any, *, decode: Decode,
) -> Selection:  # fmt: skip
    """The selection of a dense detector's detections. Keys are (anchor, class), groups are classes.

    Args:
        scores, deltas: per level ``[h, w, A, K]`` in float64, and ``[h, w, A, 4]``.
        anchors: ``[N, 4]``.
        detections: boxes ``[D, 4]`` in pixels of the model's input, scores and labels that this side kept.
        decode: from deltas to boxes.
    """
    classes, limit = config.num_classes, config.topk_candidates
    keys, selected, cuts = [], [], []
    start = 0
    for level in scores:
        values = level.reshape(-1)
        chosen = np.flatnonzero(values > config.score_thresh - 10 * TIE_BOUND)
        chosen = chosen[np.argsort(-values[chosen], kind="stable")][: limit + _MARGIN]
        best = values[chosen]
        cut = max(config.score_thresh, best[limit - 1]) if len(best) > limit else config.score_thresh
        keys.append(start + chosen)
        selected.append(best)
        cuts.append(np.full(len(chosen), cut))
        start += len(values)
    order = np.argsort(-np.concatenate(selected), kind="stable")
    key, score, cut = (np.concatenate(parts)[order] for parts in (keys, selected, cuts))
    rows, labels = key // classes, key % classes
    offsets = np.concatenate([delta.reshape(-1, 4) for delta in deltas])[rows]
    found = decode(offsets, anchors[rows], size)
    boxes, kept_scores, kept_labels = detections
    same = (labels[None] == kept_labels[:, None]) & (np.abs(score[None] - kept_scores[:, None]) < 1e-5)
    return Selection(
        keys=key,
        groups=labels,
        boxes=found,
        scores=score,
        cuts=cut,
        kept=_mask(_rows_of(boxes, found, same), len(key)),
        nms_thresh=config.nms_thresh,
        limit=config.detections_per_img,
    )


def on_level_boundary(box: np.ndarray) -> bool:
    """Whether rounding may decide from which level this proposal ``[4]`` is pooled."""
    side = math.sqrt(max(float((box[2] - box[0]) * (box[3] - box[1])), 1e-12))
    level = CANONICAL_LEVEL + math.log2(side / CANONICAL_SIZE) + 1e-6
    return abs(level - round(level)) <= 1e-5


def nearest_rows(boxes: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """The row ``[M]`` of the nearest of ``candidates [N, 4]`` for each of ``boxes [M, 4]``, each at most once."""
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


def decode(deltas: np.ndarray, boxes: np.ndarray, size: tuple[int, int], *, coder: BoxCoder) -> np.ndarray:
    """`BoxCoder.decode` and clipping in float64, ``[N, 4]``."""
    deltas = deltas.astype(np.float64) / np.asarray(coder.weights)
    boxes = boxes.astype(np.float64)
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = boxes[:, :2] + sides / 2 + deltas[:, :2] * sides
    half = sides * np.exp(np.minimum(deltas[:, 2:], coder.bbox_xform_clip)) / 2
    found = np.concatenate([centres - half, centres + half], axis=1)
    return _clip(found, size)


def decode_distances(distances: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`jaxdet.ops.linear_box_coder.BoxLinearCoder.decode` and clipping in float64, ``[N, 4]``."""
    boxes = boxes.astype(np.float64)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    distances = distances.astype(np.float64) * np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    return _clip(np.concatenate([centres - distances[:, :2], centres + distances[:, 2:]], axis=1), size)


def _clip(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.clip(boxes, 0, np.asarray([size[1], size[0]] * 2, np.float64))

"""Comparison of a two-stage detector with its original.

The stages up to the proposals are compared directly, pooled features and box predictions with PyTorch's proposals on
both sides, and finally the detections of the whole detectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from jaxdet.data import resize_boxes
from jaxdet_convert.parity import ties
from jaxdet_convert.parity.canvas import Placed, place
from jaxdet_convert.parity.match import JAXDET, PYTORCH, Boxes, match, matching, other_side, unmatched, unmatched_rows
from jaxdet_convert.parity.report import Compared, Matching, Unmatched, stage
from jaxdet_convert.parity.selections import box_selection, nearest_rows, on_level_boundary, rpn_selection
from jaxdet_convert.parity.two_stage_traces import Trace, trace_jax, trace_torch


def compare(module: Any, model: Any, image: np.ndarray, number: int, *, parts: Mapping[str, str]) -> Compared:
    """Compares both on one image. `jaxdet_convert.sources.base.Parity` documents the other arguments.

    Args:
        parts: the paths of PyTorch's submodules for "transform", "body", "pyramid", "head" (of the RPN), "anchors",
            "rpn", "pool" and "predictor".
    """
    placed = place(model, image)
    theirs = trace_torch(module, image, parts)
    ours = trace_jax(model, placed, theirs.proposals)
    stages = [stage("transformed image", theirs.pixels, ours.pixels)]
    levels = list(model.strides)
    for title, names, a, b in (
        ("backbone", model.config.fpn.levels, theirs.body, ours.body),
        ("pyramid", levels, theirs.pyramid, ours.pyramid),
        ("RPN logits", levels, theirs.rpn_logits, ours.rpn_logits),
        ("RPN deltas", levels, theirs.rpn_deltas, ours.rpn_deltas),
    ):
        stages += [stage(f"{title} {name}", x, y) for name, x, y in zip(names, a, b, strict=True)]
    stages.append(stage("anchors", theirs.anchors, ours.anchors, bound=0.0))
    first, second = _unscored(theirs.proposals), _unscored(ours.proposals)
    pairs = match(first, second)
    rows = np.asarray(pairs, np.int64).reshape(-1, 2)
    stages += [
        stage("proposals (matched ones)", theirs.proposals[rows[:, 0]], ours.proposals[rows[:, 1]]),
        stage("pooled features", theirs.given_pooled, ours.given_pooled),
        stage("class logits", theirs.given_logits, ours.given_logits),
        stage("box deltas", theirs.given_deltas, ours.given_deltas),
    ]
    apart = np.abs(theirs.proposals[rows[:, 0]] - ours.proposals[rows[:, 1]]).max(initial=0)
    judge = _Judge(theirs, ours, model, placed, number)
    rest = tuple(judge.proposal(side, row) for side, _, row in unmatched_rows(first, second, rows))
    proposals = Matching(len(theirs.proposals), len(ours.proposals), len(pairs), float(apart), unmatched=rest)
    detections = matching(_detections(theirs), _detections(ours), judge.detection)
    return Compared(tuple(stages), detections, proposals)


def notes(module: Any, model: Any) -> tuple[str, ...]:
    """A line with the strides that torchvision inferred for RoIAlign, if they are incorrect."""
    scales = getattr(module.roi_heads.box_roi_pool, "scales", None)
    strides = list(model.pool_strides())
    if scales is None or [round(1 / scale) for scale in scales] == strides:
        return ()
    return (
        "torchvision infers the strides of RoIAlign's levels from the height of its first image; here it inferred "
        f"{[round(1 / scale) for scale in scales]}, and they are {strides}: start with an image that is not thin.",
    )


def _detections(trace: Trace) -> Boxes:
    return Boxes(trace.boxes, trace.scores, trace.labels)


def _unscored(boxes: np.ndarray) -> Boxes:
    return Boxes(boxes, np.full(len(boxes), np.nan), np.zeros(len(boxes), np.int64))


class _Judge:
    """Explains unmatched boxes of one image. The selections of both sides are only computed if needed."""

    def __init__(self, theirs: Trace, ours: Trace, model: Any, placed: Placed, number: int):
        self.config, self.placed, self.number = model.config, placed, number
        self.all_anchors = theirs.anchors
        self.traces = {PYTORCH: theirs, JAXDET: ours}

    @cached_property
    def rpn(self) -> dict[str, ties.Selection]:
        return {
            side: rpn_selection(
                trace.rpn_logits, trace.rpn_deltas, self.all_anchors, self.placed.size, trace.proposals, self.config
            )
            for side, trace in self.traces.items()
        }

    @cached_property
    def anchors(self) -> dict[str, np.ndarray]:
        """The key of every proposal."""
        return {
            side: self.rpn[side].keys[nearest_rows(trace.proposals, self.rpn[side].boxes)]
            for side, trace in self.traces.items()
        }

    @cached_property
    def box(self) -> dict[str, ties.Selection]:
        stored, size = self.placed.stored, self.placed.size
        return {
            side: box_selection(
                trace.logits, trace.deltas, trace.proposals, self.anchors[side], size,
                (resize_boxes(trace.boxes, stored, size), trace.scores, trace.labels), self.config,
            )
            for side, trace in self.traces.items()
        }  # fmt: skip

    def proposal(self, side: str, row: int) -> Unmatched:
        """Explains why the other side does not have this proposal of ``side``."""
        mine, theirs = self.rpn[side], self.rpn[other_side(side)]
        anchor = int(self.anchors[side][row])
        cause = ties.explain(anchor, mine, theirs)
        at = mine.row(anchor)
        assert at is not None
        return unmatched(self.number, side, 0, mine.scores[at], mine.boxes[at], cause)

    def detection(self, side: str, found: Boxes, row: int) -> Unmatched:
        """Explains why the other side does not have this detection of ``side``."""
        cause = self._cause(side, found, row)
        return unmatched(self.number, side, found.labels[row], found.scores[row], found.boxes[row], cause)

    def _cause(self, side: str, found: Boxes, row: int) -> ties.Cause:
        other, classes = other_side(side), self.config.num_classes
        mine, theirs = self.box[side], self.box[other]
        box = resize_boxes(found.boxes[row : row + 1], self.placed.stored, self.placed.size)[0]
        key = mine.kept_key(found.labels[row], found.scores[row], box, classes)
        if key is None:
            return ties.UNKNOWN
        anchor = key // classes
        if anchor not in self.anchors[other]:
            cause = ties.explain(anchor, self.rpn[side], self.rpn[other])
            return ties.Cause(f"{other} has no such proposal: {cause.text}", cause.near_tie)
        there = theirs.row(key)
        if there is not None and not theirs.kept[there]:
            cause = ties.explain(key, mine, theirs)
            return ties.Cause(f"{other} did not keep it: {cause.text}", cause.near_tie)
        proposal = self.traces[side].proposals[np.flatnonzero(self.anchors[side] == anchor)[0]]
        if on_level_boundary(proposal):
            return ties.Cause("the size of its proposal is on the boundary between two levels of the pyramid", True)
        return ties.Cause(f"{other} has other values for it", False)

"""Proof that a model gives its original's numbers: your own PyTorch module and its conversion, side by side."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxdet.base import Model
from jaxdet.data import centre_crop, resize_boxes
from jaxdet.data.arrays import checked_images
from jaxdet.models import FasterRCNN
from jaxdet.necks import POOL
from jaxdet_convert.parity import jax_stages, ties, torch_stages
from jaxdet_convert.parity.match import Boxes, match
from jaxdet_convert.parity.report import Matching, Report, Stage, Unmatched

PYTORCH, JAXDET = "PyTorch", "jaxdet"


def compare(module: Any, model: Model, images: Sequence[np.ndarray]) -> Report:
    """Run the same images through both and measure every stage.

    The module is hooked, run in evaluation mode and left as it was. Images go through one by one, as torchvision pads
    a batch to its largest; the model puts each on the canvas that `jaxdet.predict` would choose. The stages before the
    proposals are compared as they come; pooled features and box predictions on the module's proposals in both; the
    detections again from end to end.

    Args:
        module: a torchvision-style Faster R-CNN, or a classifier with the layers of a model here.
        model: what `jaxdet_convert.from_torch` made of it.
        images: ``[H, W, 3]`` RGB, uint8 or float in 0..1, of any sizes.

    Returns:
        A `Report`: ``print(report.text())``, ``report.json()``, ``report.ok``.

    Raises:
        ValueError: no images, or something is none; or the module is not built as torchvision's.
    """
    images = checked_images(images)
    if not images:
        raise ValueError("there is nothing to compare: give at least one image")
    one: Any = _compare_detector if isinstance(model, FasterRCNN) else _compare_classifier
    stages: dict[str, Stage] = {}
    detections = proposals = Matching()
    for number, image in enumerate(images):
        found, of_proposals, of_detections = one(module, model, image, number)
        for stage in found:
            stages[stage.name] = stages[stage.name].worst(stage) if stage.name in stages else stage
        proposals, detections = proposals + of_proposals, detections + of_detections
    detector = isinstance(model, FasterRCNN)
    return Report(
        model=type(module).__name__,
        environment=_environment(module, model),
        images=tuple((int(image.shape[0]), int(image.shape[1])) for image in images),
        stages=tuple(stages.values()),
        detections=detections if detector else None,
        proposals=proposals if detector else None,
        notes=_notes(module, model),
    )


def _stage(name: str, theirs: np.ndarray, ours: np.ndarray, **options: float) -> Stage:
    if theirs.shape != ours.shape:
        raise ValueError(f"{name}: PyTorch's has shape {theirs.shape} and ours {ours.shape}: other models")
    theirs, ours = theirs.astype(np.float64), ours.astype(np.float64)
    error = float(np.abs(theirs - ours).max(initial=0))
    largest = float(np.abs(theirs).max(initial=0))
    return Stage(name, error, error / largest if largest else error, largest, **options)


def _compare_classifier(
    module: Any, model: Any, image: np.ndarray, number: int
) -> tuple[list[Stage], Matching, Matching]:
    transform = model.config.transform
    x = centre_crop(image, transform.resize, transform.crop, transform.image_mean, transform.image_std)
    maps, logits = torch_stages.trace_classifier(module, model.names, x)
    ours, our_logits = jax.device_get(jax_stages.classifier_stages(*nnx.split(model), x[None]))
    stages = [_stage(name, theirs, ours[name][0]) for name, theirs in maps.items()]
    return [*stages, _stage("logits", logits, our_logits[0])], Matching(), Matching()


def _compare_detector(
    module: Any, model: FasterRCNN, image: np.ndarray, number: int
) -> tuple[list[Stage], Matching, Matching]:
    theirs = torch_stages.trace_detector(module, image)
    ours = jax_stages.trace_detector(model, image, theirs.proposals)
    stages = [_stage("transformed image", theirs.pixels, ours.pixels)]
    levels = list(model.strides)
    for title, names, a, b in (
        ("body", model.config.fpn.levels, theirs.body, ours.body),
        ("pyramid", levels, theirs.pyramid, ours.pyramid),
        ("RPN logits", levels, theirs.rpn_logits, ours.rpn_logits),
        ("RPN deltas", levels, theirs.rpn_deltas, ours.rpn_deltas),
    ):
        stages += [_stage(f"{title} {name}", x, y) for name, x, y in zip(names, a, b, strict=True)]
    stages.append(_stage("anchors", theirs.anchors, ours.anchors, bound=0.0))
    pairs = match(_unscored(theirs.proposals), _unscored(ours.proposals))
    rows = np.asarray(pairs, np.int64).reshape(-1, 2)
    stages += [
        _stage("proposals (matched ones)", theirs.proposals[rows[:, 0]], ours.proposals[rows[:, 1]]),
        _stage("pooled features", theirs.pooled, ours.given_pooled),
        _stage("class logits", theirs.logits, ours.given_logits),
        _stage("box deltas", theirs.deltas, ours.given_deltas),
    ]
    apart = np.abs(theirs.proposals[rows[:, 0]] - ours.proposals[rows[:, 1]]).max(initial=0)
    judge = _Judge(theirs, ours, model, image.shape[:2])
    alone = _alone(_unscored(theirs.proposals), _unscored(ours.proposals), rows)
    lonely = tuple(judge.proposal(side, row, number) for side, _, row in alone)
    proposals = Matching(len(theirs.proposals), len(ours.proposals), len(pairs), float(apart), unmatched=lonely)
    return stages, proposals, _detections(theirs, ours, judge, number)


def _unscored(boxes: np.ndarray) -> Boxes:
    return Boxes(boxes, np.full(len(boxes), np.nan), np.zeros(len(boxes), np.int64))


def _alone(theirs: Boxes, ours: Boxes, rows: np.ndarray) -> list[tuple[str, Boxes, int]]:
    """Side, its boxes and the row of each box without a partner in ``rows [N, 2]``."""
    return [
        (side, found, int(row))
        for column, (side, found) in enumerate(((PYTORCH, theirs), (JAXDET, ours)))
        for row in np.setdiff1d(np.arange(len(found.boxes)), rows[:, column])
    ]


def _detections(theirs: torch_stages.DetectorTrace, ours: jax_stages.Trace, judge: _Judge, number: int) -> Matching:
    a, b = (Boxes(side.boxes, side.scores, side.labels) for side in (theirs, ours))
    pairs = match(a, b)
    rows = np.asarray(pairs, np.int64).reshape(-1, 2)
    unmatched = tuple(judge.detection(side, found, row, number) for side, found, row in _alone(a, b, rows))
    box_error = np.abs(a.boxes[rows[:, 0]] - b.boxes[rows[:, 1]]).max(initial=0)
    score_error = np.abs(a.scores[rows[:, 0]] - b.scores[rows[:, 1]]).max(initial=0)
    return Matching(len(a.boxes), len(b.boxes), len(pairs), float(box_error), float(score_error), unmatched)


class _Judge:
    """Both sides' selections of one image, worked out when first asked, and what they say about a box alone."""

    def __init__(
        self, theirs: torch_stages.DetectorTrace, ours: jax_stages.Trace, model: FasterRCNN, stored: tuple[int, ...]
    ):
        self.config, self.stored, self.all_anchors = model.config, stored, theirs.anchors
        self.size = ours.pixels.shape[:2]
        self.traces: dict[str, Any] = {PYTORCH: theirs, JAXDET: ours}

    @cached_property
    def rpn(self) -> dict[str, ties.Selection]:
        return {
            side: ties.rpn_selection(
                trace.rpn_logits, trace.rpn_deltas, self.all_anchors, self.size, trace.proposals, self.config
            )
            for side, trace in self.traces.items()
        }

    @cached_property
    def anchors(self) -> dict[str, np.ndarray]:
        """The key of every proposal."""
        return {
            side: self.rpn[side].keys[ties.nearest_rows(trace.proposals, self.rpn[side].boxes)]
            for side, trace in self.traces.items()
        }

    @cached_property
    def box(self) -> dict[str, ties.Selection]:
        return {
            side: ties.box_selection(
                trace.logits, trace.deltas, trace.proposals, self.anchors[side], self.size,
                (resize_boxes(trace.boxes, self.stored, self.size), trace.scores, trace.labels), self.config,
            )
            for side, trace in self.traces.items()
        }  # fmt: skip

    def proposal(self, side: str, row: int, image: int) -> Unmatched:
        """Why the other side lacks this proposal of ``side``."""
        mine, theirs = self.rpn[side], self.rpn[_other(side)]
        anchor = int(self.anchors[side][row])
        cause = ties.explain(anchor, mine, theirs)
        place = mine.row(anchor)
        assert place is not None
        return _unmatched(image, side, 0, mine.scores[place], mine.boxes[place], cause)

    def detection(self, side: str, found: Boxes, row: int, image: int) -> Unmatched:
        """Why the other side lacks this detection of ``side``."""
        cause = self._cause(side, found, row)
        return _unmatched(image, side, found.labels[row], found.scores[row], found.boxes[row], cause)

    def _cause(self, side: str, found: Boxes, row: int) -> ties.Cause:
        other, classes = _other(side), self.config.num_classes
        mine, theirs = self.box[side], self.box[other]
        rows = np.flatnonzero(mine.kept & (mine.keys % classes == found.labels[row]))
        if not len(rows):
            return ties.UNKNOWN
        key = int(mine.keys[rows[np.argmin(np.abs(mine.scores[rows] - found.scores[row]))]])
        anchor = key // classes
        if anchor not in self.anchors[other]:
            cause = ties.explain(anchor, self.rpn[side], self.rpn[other])
            return ties.Cause(f"{other} has no such proposal: {cause.text}", cause.near_tie)
        there = theirs.row(key)
        if there is not None and not theirs.kept[there]:
            cause = ties.explain(key, mine, theirs)
            return ties.Cause(f"{other} did not keep it: {cause.text}", cause.near_tie)
        proposal = self.traces[side].proposals[np.flatnonzero(self.anchors[side] == anchor)[0]]
        if ties.on_level_boundary(proposal):
            return ties.Cause("its proposal's size is where two levels of the pyramid meet", True)
        return ties.Cause(f"{other} has other numbers for it", False)


def _other(side: str) -> str:
    return JAXDET if side == PYTORCH else PYTORCH


def _unmatched(image: int, side: str, label: int, score: float, box: np.ndarray, cause: Any) -> Unmatched:
    corners = tuple(float(value) for value in box)
    return Unmatched(image, side, int(label), float(score), corners, cause.text, cause.near_tie)


def _notes(module: Any, model: Model) -> tuple[str, ...]:
    if not isinstance(model, FasterRCNN):
        return ("Both see the same images, cropped and normalised as the model's transform says.",)
    scales = getattr(module.roi_heads.box_roi_pool, "scales", None)
    levels = model.config.box.pool_levels or [level for level in model.strides if level != POOL]
    strides = [model.strides[level] // getattr(model, "scale", 1) for level in levels]
    if scales is None or [round(1 / scale) for scale in scales] == strides:
        return ()
    return (
        "torchvision infers the strides of RoIAlign's levels from the height of its first image; here it took them "
        f"for {[round(1 / scale) for scale in scales]}, and they are {strides}: show it one that is not thin first.",
    )


def _environment(module: Any, model: Model) -> dict[str, str]:
    """What ran, where and in which precision."""
    torch = sys.modules["torch"]
    found = {"jaxdet": _version("jaxdet"), "jax": jax.__version__, "torch": torch.__version__}
    if "torchvision" in sys.modules:
        found["torchvision"] = sys.modules["torchvision"].__version__
    first = next(module.parameters())
    numerics = model.numerics
    found["jaxdet on"] = f"{jax.devices()[0].device_kind}, {numerics.dtype}, precision {numerics.precision}"
    found["PyTorch on"] = f"{first.device}, {str(first.dtype).removeprefix('torch.')}"
    return found


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "(not installed)"

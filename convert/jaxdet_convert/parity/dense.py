"""Comparison of a dense detector with its original: the outputs of every stage, and the detections.

Axes: (h, w) an image or the map of a level, C channels, A anchors per location, N anchors of all levels, K classes,
D detections.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxdet.data import resize_boxes
from jaxdet.types import Images
from jaxdet_convert.parity import ties
from jaxdet_convert.parity.canvas import Placed, place
from jaxdet_convert.parity.listen import as_map, as_numpy, evaluating, listening
from jaxdet_convert.parity.match import JAXDET, PYTORCH, Boxes, matching, other_side, unmatched
from jaxdet_convert.parity.report import Compared, Unmatched, stage
from jaxdet_convert.parity.selections import Decode, dense_selection

Heads = Mapping[str, list[np.ndarray]]
"""The outputs of a head by attribute of `jaxdet.heads.dense_head.DenseOutputs`, each per level ``[h, w, A, X]``."""


@dataclass(frozen=True)
class HeadOutput:
    """One output of a head.

    Attributes:
        title: in reports.
        key: in the dict that PyTorch's head returns.
        attribute: in the model's outputs.
    """

    title: str
    key: str
    attribute: str


@dataclass(frozen=True)
class Form:
    """What distinguishes the families of dense detectors.

    Attributes:
        outputs: of the head.
        scores: from a level's outputs by attribute to its scores ``[h, w, A, K]`` in float64.
        decode: (deltas, anchors, image size) -> boxes in float64, clipped to the image, ``[N, 4]``.
    """

    outputs: tuple[HeadOutput, ...]
    scores: Callable[[Mapping[str, np.ndarray]], np.ndarray]
    decode: Decode


LOGITS = HeadOutput("class logits", "cls_logits", "logits")
DELTAS = HeadOutput("box deltas", "bbox_regression", "deltas")


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """In float64."""
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


@dataclass(frozen=True, eq=False)
class Trace:
    """The outputs of one side for one image, without padding.

    Attributes:
        pixels: ``[h, w, 3]``, the transformed image.
        body, pyramid: per level ``[h, w, C]``, the maps of the backbone (torchvision's ``body``) and of the pyramid.
        head: the outputs of the head.
        anchors: ``[N, 4]``.
        found: the detections, in pixels of the image as given.
    """

    pixels: np.ndarray
    body: list[np.ndarray]
    pyramid: list[np.ndarray]
    head: Heads
    anchors: np.ndarray
    found: Boxes


def compare(
    module: Any, model: Any, image: np.ndarray, number: int, *, parts: Mapping[str, str], form: Form
) -> Compared:
    """Compares both on one image. `jaxdet_convert.sources.base.Parity` documents the other arguments.

    Args:
        parts: the paths of PyTorch's submodules for "transform", "body", "pyramid", "head" and "anchors".
    """
    placed = place(model, image)
    theirs, ours = _trace_torch(module, image, parts, form), _trace_jax(model, placed, form)
    stages = [stage("transformed image", theirs.pixels, ours.pixels)]
    levels = list(model.strides)
    for title, names, a, b in (
        ("backbone", model.config.fpn.levels, theirs.body, ours.body),
        ("pyramid", levels, theirs.pyramid, ours.pyramid),
        *((one.title, levels, theirs.head[one.attribute], ours.head[one.attribute]) for one in form.outputs),
    ):
        stages += [stage(f"{title} {name}", x, y) for name, x, y in zip(names, a, b, strict=True)]
    stages.append(stage("anchors", theirs.anchors, ours.anchors, bound=0.0))
    judge = _Judge(theirs, ours, model, placed, number, form)
    return Compared(tuple(stages), matching(theirs.found, ours.found, judge.detection))


def _trace_torch(module: Any, image: np.ndarray, parts: Mapping[str, str], form: Form) -> Trace:
    with listening(module, parts) as seen, evaluating(module) as to_input:
        found = module([to_input(image)])[0]
    images = seen["transform"][0]
    height, width = images.image_sizes[0]
    pyramid = [as_map(x) for x in seen["pyramid"].values()]
    grids = [x.shape[:2] for x in pyramid]
    outputs = {one.attribute: as_numpy(seen["head"][one.key])[0] for one in form.outputs}
    return Trace(
        pixels=as_map(images.tensors)[:height, :width],
        body=[as_map(x) for x in seen["body"].values()],
        pyramid=pyramid,
        head={name: _levels(array, grids) for name, array in outputs.items()},
        anchors=as_numpy(seen["anchors"][0]),
        found=Boxes(*(as_numpy(found[key]) for key in ("boxes", "scores", "labels"))),
    )


def _levels(outputs: np.ndarray, grids: list[tuple[int, ...]]) -> list[np.ndarray]:
    """Splits ``[N, X]`` of all levels into ``[h, w, A, X]`` per level."""
    each = len(outputs) // sum(height * width for height, width in grids)
    ends = np.cumsum([each * height * width for height, width in grids])[:-1]
    split = np.split(outputs, ends)
    return [x.reshape(*grid, each, -1) for x, grid in zip(split, grids, strict=True)]


def _trace_jax(model: Any, placed: Placed, form: Form) -> Trace:
    found = jax.device_get(_stages(*nnx.split(model), placed.images))
    pyramid = [found["pyramid"][level] for level in model.strides]  # jit sorts dicts by name

    def gridded(levels: Any) -> list[np.ndarray]:
        """``[1, h * w * A, X]`` or ``[1, h * w * A]`` per level as ``[h, w, A, X]``, without padding."""
        sizes = [x.shape[2] if x.ndim == 3 else 1 for x in levels]
        maps = [x.reshape(1, *y.shape[1:3], -1, n) for x, y, n in zip(levels, pyramid, sizes, strict=True)]
        return placed.cut(maps)

    outputs = found["outputs"]
    return Trace(
        pixels=placed.pixels,
        body=placed.cut([found["body"][level] for level in model.config.fpn.levels]),
        pyramid=placed.cut(pyramid),
        head={one.attribute: gridded(getattr(outputs, one.attribute)) for one in form.outputs},
        anchors=np.concatenate([x.reshape(-1, 4) for x in gridded(outputs.anchors)]),
        found=Boxes(*placed.boxes(found["detections"])),
    )


@partial(jax.jit, static_argnums=0)
def _stages(graphdef: nnx.GraphDef, state: nnx.State, images: Images) -> dict[str, Any]:
    """The outputs of all stages."""
    model = nnx.merge(graphdef, state)
    body = model.extract(images)
    pyramid = model.pyramid(body, images)
    outputs = model.predict(pyramid, images)
    return {"body": body, "pyramid": pyramid, "outputs": outputs, "detections": model.detect(outputs, images)}


class _Judge:
    """Explains unmatched boxes of one image. The selections of both sides are only computed if needed."""

    def __init__(self, theirs: Trace, ours: Trace, model: Any, placed: Placed, number: int, form: Form):
        self.config, self.placed, self.number, self.form = model.config, placed, number, form
        self.anchors = theirs.anchors
        self.traces = {PYTORCH: theirs, JAXDET: ours}

    @cached_property
    def selections(self) -> dict[str, ties.Selection]:
        stored, size = self.placed.stored, self.placed.size
        return {
            side: dense_selection(
                self._scores(trace), trace.head["deltas"], self.anchors, size,
                (resize_boxes(trace.found.boxes, stored, size), trace.found.scores, trace.found.labels), self.config,
                decode=self.form.decode,
            )
            for side, trace in self.traces.items()
        }  # fmt: skip

    def _scores(self, trace: Trace) -> list[np.ndarray]:
        levels = range(len(trace.pyramid))
        return [self.form.scores({name: arrays[level] for name, arrays in trace.head.items()}) for level in levels]

    def detection(self, side: str, found: Boxes, row: int) -> Unmatched:
        """Explains why the other side does not have this detection of ``side``."""
        mine, theirs = self.selections[side], self.selections[other_side(side)]
        box = resize_boxes(found.boxes[row : row + 1], self.placed.stored, self.placed.size)[0]
        key = mine.kept_key(found.labels[row], found.scores[row], box, self.config.num_classes)
        cause = ties.UNKNOWN
        if key is not None:
            there = theirs.row(key)
            kept = there is not None and theirs.kept[there]
            cause = (
                ties.Cause("the other side has other values for it", False)
                if kept
                else (ties.explain(key, mine, theirs))
            )
        return unmatched(self.number, side, found.labels[row], found.scores[row], found.boxes[row], cause)

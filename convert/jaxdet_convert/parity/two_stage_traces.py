"""The outputs of all stages of a two-stage detector, in PyTorch and in jaxdet: channels last, without batch axis.

Axes: (h, w) an image or the map of a level, C channels, A anchors per location, N anchors of all levels, R proposals,
K classes, D detections, P cells per side of a pooled region.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxdet.types import Images, Proposals
from jaxdet_convert.parity.canvas import Placed
from jaxdet_convert.parity.listen import as_map, as_numpy, evaluating, listening


@dataclass(frozen=True, eq=False)
class Trace:
    """The outputs of one side for one image, without padding.

    Attributes:
        pixels: ``[h, w, 3]``, the transformed image.
        body, pyramid: per level ``[h, w, C]``, the maps of the backbone (torchvision's ``body``) and of the pyramid.
        rpn_logits, rpn_deltas: per level ``[h, w, A]`` and ``[h, w, A, 4]``.
        anchors: ``[N, 4]``.
        proposals: ``[R, 4]``.
        logits, deltas: ``[R, K]`` and ``[R, K, 4]`` for this side's proposals.
        given_pooled, given_logits, given_deltas: ``[R, P, P, C]``, ``[R, K]``, ``[R, K, 4]`` for PyTorch's proposals.
        boxes, scores, labels: the detections, ``[D, 4]`` in pixels of the image as given, ``[D]``, ``[D]``.
    """

    pixels: np.ndarray
    body: list[np.ndarray]
    pyramid: list[np.ndarray]
    rpn_logits: list[np.ndarray]
    rpn_deltas: list[np.ndarray]
    anchors: np.ndarray
    proposals: np.ndarray
    logits: np.ndarray
    deltas: np.ndarray
    given_pooled: np.ndarray
    given_logits: np.ndarray
    given_deltas: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def trace_torch(module: Any, image: np.ndarray, parts: Mapping[str, str]) -> Trace:
    """Runs the module on one image ``[H, W, 3]``, uint8 or float in 0..1.

    Args:
        parts: the paths of the submodules of all stages.

    Raises:
        ValueError: the module does not have one of them.
    """
    with listening(module, parts) as seen, evaluating(module) as to_input:
        found = module([to_input(image)])[0]
    images = seen["transform"][0]
    height, width = images.image_sizes[0]
    rpn_logits, rpn_deltas = seen["head"]
    logits, deltas = map(as_numpy, seen["predictor"])
    deltas = deltas.reshape(*logits.shape, 4)
    return Trace(
        pixels=as_map(images.tensors)[:height, :width],
        body=[as_map(x) for x in seen["body"].values()],
        pyramid=[as_map(x) for x in seen["pyramid"].values()],
        rpn_logits=[as_map(x) for x in rpn_logits],
        rpn_deltas=[(y := as_map(x)).reshape(*y.shape[:2], -1, 4) for x in rpn_deltas],
        anchors=as_numpy(seen["anchors"][0]),
        proposals=as_numpy(seen["rpn"][0][0]),
        logits=logits,
        deltas=deltas,
        given_pooled=as_numpy(seen["pool"]).transpose(0, 2, 3, 1),
        given_logits=logits,
        given_deltas=deltas,
        boxes=as_numpy(found["boxes"]),
        scores=as_numpy(found["scores"]),
        labels=as_numpy(found["labels"]),
    )


def trace_jax(model: Any, placed: Placed, given: np.ndarray) -> Trace:
    """Runs the model on one image.

    Args:
        given: proposals ``[R, 4]`` in pixels of the model's input, on which the second stage runs additionally.
    """
    slots = max(model.config.rpn.post_nms_top_n_test, len(given))
    padded = np.zeros((1, slots, 4), np.float32)
    padded[0, : len(given)] = given
    valid = np.arange(slots)[None] < len(given)
    others = Proposals(padded, np.zeros((1, slots), np.float32), valid)  # type: ignore[arg-type]
    found = jax.device_get(_stages(*nnx.split(model), placed.images, others))
    pyramid = [found["pyramid"][level] for level in model.strides]  # jit sorts dicts by name
    scale = getattr(model, "scale", 1)  # HeadHunter's heads may use larger maps

    def gridded(levels: Any, *last: int) -> list[np.ndarray]:
        shapes = [(scale * x.shape[1], scale * x.shape[2]) for x in pyramid]
        return placed.cut([x.reshape(1, *shape, -1, *last) for x, shape in zip(levels, shapes, strict=True)], scale)

    rpn = found["rpn"]
    proposed = found["proposals"].valid[0]
    boxes, scores, labels = placed.boxes(found["detections"])
    return Trace(
        pixels=placed.pixels,
        body=placed.cut([found["body"][level] for level in model.config.fpn.levels]),
        pyramid=placed.cut(pyramid),
        rpn_logits=gridded(rpn.logits),
        rpn_deltas=gridded(rpn.deltas, 4),
        anchors=np.concatenate([x.reshape(-1, 4) for x in gridded(rpn.anchors, 4)]),
        proposals=found["proposals"].boxes[0][proposed],
        logits=found["outputs"].logits[0][proposed],
        deltas=found["outputs"].deltas[0][proposed],
        given_pooled=found["given_pooled"][0, : len(given)],
        given_logits=found["given"].logits[0, : len(given)],
        given_deltas=found["given"].deltas[0, : len(given)],
        boxes=boxes,
        scores=scores,
        labels=labels,
    )


@partial(jax.jit, static_argnums=0)
def _stages(graphdef: nnx.GraphDef, state: nnx.State, images: Images, given: Proposals) -> dict[str, Any]:
    """The outputs of all stages."""
    model = nnx.merge(graphdef, state)
    body = model.extract(images)
    pyramid = model.pyramid(body, images)
    rpn = model.rpn(pyramid, images)
    proposals = model.propose(rpn, images)
    outputs = model.classify(pyramid, proposals, images)
    return {
        "body": body,
        "pyramid": pyramid,
        "rpn": rpn,
        "proposals": proposals,
        "outputs": outputs,
        "detections": model.detect(outputs, proposals, images),
        "given_pooled": model.pool(pyramid, given, images),
        "given": model.classify(pyramid, given, images),
    }

"""What a model of this library computes at every stage, cut to the image's own part of its canvas."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from jaxdet.data import canvases, choose_canvas, resize_boxes
from jaxdet.data.batching.canvas import align
from jaxdet.data.transforms import preprocess_to
from jaxdet.inference import collate
from jaxdet.models import FasterRCNN
from jaxdet.nn import image_extents, inside
from jaxdet.ops.resize import resized_size
from jaxdet.types import Images, Proposals


@dataclass(frozen=True, eq=False)
class Trace:
    """One image through a detector; axes as in `torch_stages.DetectorTrace`. ``given_*``: on PyTorch's proposals."""

    pixels: np.ndarray
    body: list[np.ndarray]
    pyramid: list[np.ndarray]
    rpn_logits: list[np.ndarray]
    rpn_deltas: list[np.ndarray]
    anchors: np.ndarray
    proposals: np.ndarray
    proposal_scores: np.ndarray  # [R] after the sigmoid
    logits: np.ndarray
    deltas: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    given_pooled: np.ndarray
    given_logits: np.ndarray
    given_deltas: np.ndarray


def trace_detector(model: FasterRCNN, image: np.ndarray, given: np.ndarray) -> Trace:
    """Run the model on one image ``[H, W, 3]``, on the canvas that `jaxdet.predict` would choose.

    ``given``: proposals ``[R, 4]`` in pixels of the model's input, for the second stage once more.
    """
    transform = model.config.transform
    height, width = image.shape[:2]
    size = resized_size(height, width, transform.min_size, transform.max_size, enlarge=transform.enlarge)
    pixels = preprocess_to(image, size, mean=transform.image_mean, std=transform.image_std)
    extent = align(size[0]), align(size[1])
    # Without masking a larger canvas gives other numbers, so the image gets one of its own.
    fast = model.config.canvas == "fast"
    canvas = extent if fast else choose_canvas(size, canvases(transform.min_size, transform.max_size))
    images = collate([pixels], canvas, 1)
    slots = max(model.config.rpn.post_nms_top_n_test, len(given))
    padded = np.zeros((1, slots, 4), np.float32)
    padded[0, : len(given)] = given
    valid = np.arange(slots)[None] < len(given)
    others = Proposals(padded, np.zeros((1, slots), np.float32), valid)  # type: ignore[arg-type]
    found = jax.device_get(_stages(*nnx.split(model), images, others))

    overhang = getattr(model.backbone, "overhang", 0)
    grids = [(-(-extent[0] // s) + overhang, -(-extent[1] // s) + overhang) for s in model.strides.values()]
    pyramid = [found["pyramid"][level] for level in model.strides]  # a jit boundary sorts dicts by name

    def cut(maps: Any, scale: int = 1) -> list[np.ndarray]:
        return [x[0, : scale * h, : scale * w] for x, (h, w) in zip(maps, grids, strict=False)]

    scale = getattr(model, "scale", 1)  # a HeadHunter's heads see larger maps

    def gridded(levels: Any, *last: int) -> list[np.ndarray]:
        shapes = [(scale * x.shape[1], scale * x.shape[2]) for x in pyramid]
        return cut(
            [x.reshape(1, *shape, -1, *last) for x, shape in zip(levels, shapes, strict=True)],
            getattr(model, "scale", 1),
        )

    rpn, detections = found["rpn"], found["detections"]
    proposed, kept = found["proposals"].valid[0], detections.valid[0]
    return Trace(
        pixels=pixels,
        body=cut([found["body"][level] for level in model.config.fpn.levels]),
        pyramid=cut(pyramid),
        rpn_logits=gridded(rpn.logits),
        rpn_deltas=gridded(rpn.deltas, 4),
        anchors=np.concatenate([x.reshape(-1, 4) for x in gridded(rpn.anchors, 4)]),
        proposals=found["proposals"].boxes[0][proposed],
        proposal_scores=found["proposals"].scores[0][proposed],
        logits=found["outputs"].logits[0][proposed],
        deltas=found["outputs"].deltas[0][proposed],
        boxes=resize_boxes(detections.boxes[0][kept], size, image.shape[:2]),
        scores=detections.scores[0][kept],
        labels=detections.labels[0][kept],
        given_pooled=found["given_pooled"][0, : len(given)],
        given_logits=found["given"].logits[0, : len(given)],
        given_deltas=found["given"].deltas[0, : len(given)],
    )


@partial(jax.jit, static_argnums=0)
def _stages(graphdef: nnx.GraphDef, state: nnx.State, images: Images, given: Proposals) -> dict[str, Any]:
    """The stairs of `FasterRCNN.__call__`, with everything on the way."""
    model = nnx.merge(graphdef, state)
    # What `features` does before the pyramid; the compiler finds the two alike and computes them once.
    own = inside(images.sizes, *images.pixels.shape[1:3])
    pixels = jnp.where(own, images.pixels, 0).astype(model.numerics.dtype)
    body = model.backbone.features(pixels, image_extents(images.sizes) if model.config.canvas == "image" else None)
    pyramid = model.features(images)
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


@partial(jax.jit, static_argnums=0)
def classifier_stages(graphdef: nnx.GraphDef, state: nnx.State, x: Array) -> tuple[dict[str, Array], Array]:
    """Named maps and logits of a batch of normalised images."""
    model = nnx.merge(graphdef, state)
    return model.features(x), model(x)

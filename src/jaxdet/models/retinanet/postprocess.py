"""Post-processing of RetinaNet: from predictions to detections.

Axes: B images, L levels, N anchors of a level, K classes, M candidates of an image, D detections.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxdet.heads.dense_head import DenseOutputs
from jaxdet.heads.suppression import best_detections
from jaxdet.ops.box_coder import BoxCoder
from jaxdet.ops.boxes import clip_boxes, float_dtype
from jaxdet.ops.top_pairs import top_pairs
from jaxdet.types import Detections


def postprocess(
    outputs: DenseOutputs,
    sizes: Array,
    *,
    score_thresh: float = 0.05,
    nms_thresh: float = 0.5,
    detections_per_img: int = 300,
    topk_candidates: int = 1000,
) -> Detections:
    """The detections of a batch, in torchvision's order of steps (``RetinaNet.postprocess_detections``).

    1. Per level, select the ``topk_candidates`` (anchor, class) pairs with the highest scores (sigmoid of the logits),
       and remove scores up to ``score_thresh``.
    2. Decode their boxes and clip them to the image.
    3. NMS within each class, over all levels.
    4. Keep the ``detections_per_img`` highest scores.

    As in torchvision, column 0 of the logits (the background) is treated like any other class. Pairs are ranked by
    logits, which differs from a ranking by scores only if different logits round to the same score.

    Args:
        sizes: ``[B, 2]`` height and width of each image in pixels.
    """
    levels = zip(outputs.logits, outputs.deltas, outputs.anchors, outputs.valid, strict=True)
    found = [_level_candidates(*level, score_thresh, topk_candidates) for level in levels]
    scores, deltas, anchors, labels = (jnp.concatenate(parts, axis=1) for parts in zip(*found, strict=True))

    def candidates(
        index: Array, scores: Array, deltas: Array, anchors: Array, labels: Array, size: Array
    ) -> tuple[Array, Array, Array]:
        boxes = BoxCoder().decode(deltas[index].astype(scores.dtype), anchors[index].astype(scores.dtype))
        return clip_boxes(boxes, size), labels[index], scores > -jnp.inf

    return best_detections(
        candidates, scores, deltas, anchors, labels, sizes, iou_threshold=nms_thresh, limit=detections_per_img
    )


def _level_candidates(
    logits: Array, deltas: Array, anchors: Array, valid: Array, score_thresh: float, count: int
) -> tuple[Array, Array, Array, Array]:
    """The candidates of one level: scores ``[B, M]`` (-inf: no candidate), deltas, anchors and labels."""

    def select(logits: Array, deltas: Array, anchors: Array, valid: Array) -> tuple[Array, Array, Array, Array]:
        top, anchor, label = top_pairs(logits.astype(float_dtype(logits)), count, valid=valid)
        scores = jax.nn.sigmoid(top)
        scores = jnp.where((scores > score_thresh) & (top > -jnp.inf), scores, -jnp.inf)
        return scores, deltas[anchor], anchors[anchor], label

    return jax.vmap(select)(logits, deltas, anchors, valid)

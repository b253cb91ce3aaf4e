"""From the predictions of a dense head to detections, by torchvision's rules for RetinaNet.

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
    """Detections of a batch, in torchvision's order of steps (``RetinaNet.postprocess_detections``).

    Of every level the ``topk_candidates`` (anchor, class) pairs of highest score, which is the sigmoid of the logit,
    and only those above ``score_thresh``; decoding; clipping to the true ``sizes [B, 2]``; NMS within a class over
    all levels; the ``detections_per_img`` highest scores. Column 0 is a class as any other here.

    Pairs are ranked by their logits, which order them as their scores do, but for scores that round to the same number.
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
    """Scores ``[B, M]``, -inf where there is no candidate, with deltas, anchors and labels, of one level."""

    def of_image(logits: Array, deltas: Array, anchors: Array, valid: Array) -> tuple[Array, Array, Array, Array]:
        top, anchor, label = top_pairs(logits.astype(float_dtype(logits)), count, valid=valid)
        scores = jax.nn.sigmoid(top)
        scores = jnp.where((scores > score_thresh) & (top > -jnp.inf), scores, -jnp.inf)
        return scores, deltas[anchor], anchors[anchor], label

    return jax.vmap(of_image)(logits, deltas, anchors, valid)

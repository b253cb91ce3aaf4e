"""Post-processing of dense detectors: from predictions to detections.

Axes: B images, L levels, N anchors of a level, K classes, M candidates of an image, D detections.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from jaxdet.heads.dense_head import DenseOutputs
from jaxdet.heads.suppression import best_detections
from jaxdet.ops.boxes import clip_boxes, float_dtype
from jaxdet.ops.top_pairs import top_pairs
from jaxdet.types import Detections


def select_detections(
    outputs: DenseOutputs,
    ranks: Sequence[Array],
    sizes: Array,
    *,
    to_scores: Callable[[Array], Array],
    decode: Callable[[Array, Array], Array],
    score_thresh: float,
    nms_thresh: float,
    detections_per_img: int,
    topk_candidates: int,
) -> Detections:
    """The detections of a batch, in the order of steps of torchvision's dense detectors.

    1. Per level, select the ``topk_candidates`` (anchor, class) pairs with the highest scores, and remove scores up to
       ``score_thresh``.
    2. Decode their boxes and clip them to the image.
    3. NMS within each class, over all levels.
    4. Keep the ``detections_per_img`` highest scores.

    As in torchvision, column 0 of the logits (the background) is treated like any other class.

    Args:
        ranks: per level ``[B, N, K]``, by which pairs are ranked: scores, or logits with the same order.
        sizes: ``[B, 2]`` height and width of each image in pixels.
        to_scores: from ranks to scores.
        decode: from (deltas, anchors) to xyxy boxes, each ``[M, 4]``.
    """
    select = partial(_level_candidates, to_scores=to_scores, score_thresh=score_thresh, count=topk_candidates)
    levels = zip(ranks, outputs.deltas, outputs.anchors, outputs.valid, strict=True)
    found = [jax.vmap(select)(*level) for level in levels]
    scores, deltas, anchors, labels = (jnp.concatenate(parts, axis=1) for parts in zip(*found, strict=True))

    def candidates(
        index: Array, scores: Array, deltas: Array, anchors: Array, labels: Array, size: Array
    ) -> tuple[Array, Array, Array]:
        boxes = decode(deltas[index].astype(scores.dtype), anchors[index].astype(scores.dtype))
        return clip_boxes(boxes, size), labels[index], scores > -jnp.inf

    return best_detections(
        candidates, scores, deltas, anchors, labels, sizes, iou_threshold=nms_thresh, limit=detections_per_img
    )


def _level_candidates(
    ranks: Array,
    deltas: Array,
    anchors: Array,
    valid: Array,
    *,
    to_scores: Callable[[Array], Array],
    score_thresh: float,
    count: int,
) -> tuple[Array, Array, Array, Array]:
    """The candidates of an image's level: scores ``[M]`` (-inf: no candidate), deltas, anchors and labels."""
    top, anchor, label = top_pairs(ranks.astype(float_dtype(ranks)), count, valid=valid)
    scores = to_scores(top)
    scores = jnp.where((scores > score_thresh) & (top > -jnp.inf), scores, -jnp.inf)
    return scores, deltas[anchor], anchors[anchor], label

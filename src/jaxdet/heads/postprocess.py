"""From the second stage's predictions to detections.

Axes: R proposals, K classes, M candidates, D detections; everything here is for one image.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import Array

from jaxdet.heads.box_head import BoxConfig, RoIOutputs
from jaxdet.ops.box_coder import BoxCoder
from jaxdet.ops.boxes import clip_boxes, float_dtype, large_enough
from jaxdet.ops.nms import batched_nms, greedy_nms
from jaxdet.ops.soft_nms import SoftNMS, soft_nms
from jaxdet.types import Detections, Proposals

MIN_SIZE = 1e-2  # pixels; torchvision's RoIHeads
FAST_CANDIDATES = 2048  # enough for almost every image: the quadratic NMS sees this many


def postprocess(
    outputs: RoIOutputs, proposals: Proposals, sizes: Array, config: BoxConfig, decay: SoftNMS | None = None
) -> Detections:
    """Detections of a batch, in torchvision's order of steps (``RoIHeads.postprocess_detections``).

    Softmax; every (proposal, class) pair but the background's decoded and clipped to the true ``sizes [B, 2]``; scores
    of at most ``score_thresh`` and boxes with a side under 0.01 pixels dropped; NMS within a class, or over all of
    them; the ``detections_per_img`` highest scores.

    NMS looks at the 2,048 highest scores. That is exact where they are all there are, and where they yield all the
    detections asked for: what ranks lower could suppress nothing that ranks higher. Otherwise (one image of the batch
    is enough) the greedy algorithm runs over all candidates.

    With ``decay`` scores decay in its place (soft-NMS); it always looks at all candidates, and may leave scores below
    ``score_thresh``.
    """
    scores = jax.nn.softmax(outputs.logits.astype(float_dtype(outputs.logits)), axis=-1)[..., 1:]  # [B, R, K - 1]
    above = proposals.valid[..., None] & (scores > config.score_thresh)
    scores = jnp.where(above, scores, -jnp.inf).reshape(scores.shape[0], -1)  # [B, M]
    coder = BoxCoder(config.reg_weights)
    classes = outputs.logits.shape[-1] - 1

    def candidates(index: Array, scores: Array, deltas: Array, boxes: Array, size: Array) -> tuple[Array, Array, Array]:
        """Boxes, labels and validity of the (proposal, class) pairs at ``index [M]``."""
        proposal, label = index // classes, index % classes + 1
        boxes = coder.decode(deltas[proposal, label].astype(scores.dtype), boxes[proposal].astype(scores.dtype))
        boxes = clip_boxes(boxes, size)
        return boxes, label, (scores > -jnp.inf) & large_enough(boxes, MIN_SIZE)

    def pack(boxes: Array, scores: Array, labels: Array, chosen: Array, valid: Array) -> Detections:
        boxes = jnp.where(valid[:, None], boxes[chosen], 0)
        return Detections(boxes, jnp.where(valid, scores[chosen], 0), jnp.where(valid, labels[chosen], 0), valid)

    def suppress(nms, index: Array, scores: Array, deltas: Array, boxes: Array, size: Array) -> Detections:
        boxes, labels, valid = candidates(index, scores, deltas, boxes, size)
        groups = None if config.class_agnostic_nms else labels
        limit = min(config.detections_per_img, scores.shape[0])
        chosen, kept = nms(boxes, scores, groups, config.nms_thresh, valid=valid, max_outputs=limit)
        return pack(boxes, scores, labels, chosen, kept)

    def all_candidates(*args: Array) -> Detections:
        def one(scores: Array, *rest: Array) -> Detections:
            return suppress(greedy_nms, jnp.arange(scores.shape[0]), scores, *rest)

        return jax.vmap(one)(*args)

    def best_candidates(scores: Array, *rest: Array) -> Detections:
        top, index = jax.lax.top_k(scores, min(first, scores.shape[1]))
        return jax.vmap(lambda *args: suppress(batched_nms, *args))(index, top, *rest)

    def decayed(scores: Array, *rest: Array) -> Detections:
        boxes, labels, valid = candidates(jnp.arange(scores.shape[0]), scores, *rest)
        groups = None if config.class_agnostic_nms else labels
        limit = min(config.detections_per_img, scores.shape[0])
        assert decay is not None
        chosen, kept, found = soft_nms(boxes, scores, groups, decay, valid=valid, max_outputs=limit)
        return replace(pack(boxes, scores, labels, chosen, found), scores=kept)

    first = max(FAST_CANDIDATES, config.detections_per_img)
    args = (scores, outputs.deltas, proposals.boxes, sizes)
    if decay is not None:
        return jax.vmap(decayed)(*args)
    fast = best_candidates(*args)
    if scores.shape[1] <= first:
        return fast
    overflow = (scores > -jnp.inf).sum(axis=1) > first
    incomplete = jnp.any(overflow & ~fast.valid.all(axis=1))
    return jax.lax.cond(incomplete, lambda: all_candidates(*args), lambda: fast)

"""Post-processing of the second stage: from predictions to detections.

Axes: B images, R proposals, K classes, M candidates of an image, D detections.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import Array

from jaxdet.heads.box_head import BoxConfig, RoIOutputs
from jaxdet.heads.suppression import best_detections, pack_detections
from jaxdet.ops.box_coder import BoxCoder
from jaxdet.ops.boxes import clip_boxes, float_dtype, large_enough
from jaxdet.ops.suppression.soft import SoftNMS, soft_nms
from jaxdet.types import Detections, Proposals

MIN_SIZE = 1e-2  # pixels; torchvision's RoIHeads


def postprocess(
    outputs: RoIOutputs, proposals: Proposals, sizes: Array, config: BoxConfig, decay: SoftNMS | None = None
) -> Detections:
    """The detections of a batch, in torchvision's order of steps (``RoIHeads.postprocess_detections``).

    1. Softmax over the classes.
    2. Decode the box of every (proposal, class) pair except the background's, and clip it to the image.
    3. Remove scores up to ``score_thresh`` and boxes with a side under 0.01 pixels.
    4. NMS within each class, or over all classes.
    5. Keep the ``detections_per_img`` highest scores.

    Args:
        sizes: ``[B, 2]`` height and width of each image in pixels.
        decay: soft-NMS in place of NMS. It considers all candidates, and may return scores below ``score_thresh``.
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

    def decayed(scores: Array, *arrays: Array) -> Detections:
        boxes, labels, valid = candidates(jnp.arange(scores.shape[0]), scores, *arrays)
        groups = None if config.class_agnostic_nms else labels
        limit = min(config.detections_per_img, scores.shape[0])
        assert decay is not None
        chosen, kept, found = soft_nms(boxes, scores, groups, decay, valid=valid, max_outputs=limit)
        return replace(pack_detections(boxes, scores, labels, chosen, found), scores=kept)

    arrays = (outputs.deltas, proposals.boxes, sizes)
    if decay is not None:
        return jax.vmap(decayed)(scores, *arrays)
    return best_detections(
        candidates,
        scores,
        *arrays,
        iou_threshold=config.nms_thresh,
        limit=config.detections_per_img,
        class_agnostic=config.class_agnostic_nms,
    )

"""The two losses of RetinaNet, by torchvision's rules.

Axes: B images, N anchors of an image (all levels), K classes. Both losses are means over the images of the batch, each
of them normalised by its own foreground anchors. An empty slot of the batch is no image and does not enter the mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from jaxdet.models.retinanet.targets import AnchorTargets
from jaxdet.ops.box_coder import BoxCoder
from jaxdet.ops.box_losses import generalized_box_iou_loss, smooth_l1
from jaxdet.ops.boxes import float_dtype
from jaxdet.ops.focal import sigmoid_focal_loss

BOX_LOSSES = ("l1", "giou")


def classification_loss(logits: Sequence[Array], targets: AnchorTargets, present: Array) -> Array:
    """The sigmoid focal loss of all anchors that are foreground or background, over the foreground ones.

    Args:
        logits: ``[B, N_l, K]`` a level, together those of all N anchors; column 0 is no class of any ground truth.
        targets: of the batch.
        present: ``[B]`` bool, which slots of the batch hold an image.

    Returns:
        A scalar.
    """
    classes = jnp.arange(logits[0].shape[-1], dtype=targets.labels.dtype)[None]

    def of_image(logits: Array, labels: Array, positive: Array, valid: Array) -> Array:
        wanted = (labels[:, None] == classes) & positive[:, None]  # [N_l, K]
        return sigmoid_focal_loss(logits, wanted, reduction="sum", valid=valid)

    # Level by level: joined, they would be copied, and so would their gradients.
    start, sums = 0, jnp.zeros(len(present), float_dtype(*logits))
    for level in logits:
        own = slice(start, start + level.shape[1])
        parts = (targets.labels, targets.positive, targets.positive | targets.negative)
        sums += jax.vmap(of_image)(level, *(part[:, own] for part in parts))
        start += level.shape[1]
    return _mean_over_images(sums, targets, present)


def box_regression_loss(deltas: Array, anchors: Array, targets: AnchorTargets, present: Array, kind: str) -> Array:
    """The box loss of the foreground anchors, over their number.

    Args:
        deltas: ``[B, N, 4]`` relative to the anchors.
        anchors: ``[B, N, 4]`` xyxy; slots that are not foreground may hold anything.
        targets: of the batch.
        present: ``[B]`` bool, which slots of the batch hold an image.
        kind: ``"l1"`` of the deltas (torchvision's v1), or ``"giou"`` of the decoded boxes, not clipped to the image
            (its v2).

    Returns:
        A scalar.
    """
    if kind not in BOX_LOSSES:
        raise ValueError(f"the box loss is one of {', '.join(BOX_LOSSES)}, not {kind!r}")
    coder, positive = BoxCoder(), targets.positive
    anchors = anchors.astype(float_dtype(deltas))
    # Masked before use: no NaN of another slot reaches a gradient.
    deltas = jnp.where(positive[..., None], deltas, 0).astype(anchors.dtype)
    boxes = targets.boxes.astype(anchors.dtype)
    if kind == "l1":
        wanted = coder.encode(boxes, anchors, valid=positive)  # zeros, as the deltas, where not foreground
        sums = smooth_l1(deltas, wanted, beta=0).sum((1, 2))
    else:
        losses = generalized_box_iou_loss(coder.decode(deltas, anchors), boxes, valid=positive)
        sums = losses.sum(1)
    return _mean_over_images(sums, targets, present)


def _mean_over_images(sums: Array, targets: AnchorTargets, present: Array) -> Array:
    """Of ``sums [B]``, each over the foreground anchors of its image."""
    foreground = targets.positive.sum(axis=1, dtype=sums.dtype)
    values = jnp.where(present, sums / jnp.maximum(foreground, 1), 0)
    return values.sum() / jnp.maximum(present.sum(dtype=sums.dtype), 1)

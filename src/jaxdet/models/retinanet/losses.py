"""The two losses of RetinaNet, equivalent to torchvision's.

Both losses are divided by the number of positive anchors of each image, then averaged over the images of the batch.
Empty slots of the batch are not part of the mean.

Axes: B images, N anchors of an image (all levels), N_l anchors of a level, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from jaxdet.heads.dense_losses import focal_sums
from jaxdet.heads.target_assignment import AnchorTargets
from jaxdet.ops.box_coder import BoxCoder
from jaxdet.ops.box_losses import generalized_box_iou_loss, smooth_l1
from jaxdet.ops.boxes import float_dtype

BOX_LOSSES = ("l1", "giou")


def classification_loss(logits: Sequence[Array], targets: AnchorTargets, present: Array) -> Array:
    """The sigmoid focal loss of all positive and negative anchors.

    Args:
        logits: per level ``[B, N_l, K]``. Column 0 (the background) is never a target.
        targets: of the batch.
        present: ``[B]`` bool, whether each slot of the batch contains an image.

    Returns:
        A scalar.
    """
    return _mean_over_images(focal_sums(logits, targets), targets, present)


def box_regression_loss(deltas: Array, anchors: Array, targets: AnchorTargets, present: Array, kind: str) -> Array:
    """The box loss of the positive anchors.

    Args:
        deltas: ``[B, N, 4]`` relative to the anchors.
        anchors: ``[B, N, 4]`` xyxy. Slots that are not positive may contain any values.
        targets: of the batch.
        present: ``[B]`` bool, whether each slot of the batch contains an image.
        kind: ``"l1"`` on the deltas (torchvision's v1), or ``"giou"`` on the decoded boxes, which are not clipped to
            the image (torchvision's v2).

    Returns:
        A scalar.
    """
    if kind not in BOX_LOSSES:
        raise ValueError(f"the box loss must be one of {', '.join(BOX_LOSSES)}, not {kind!r}")
    coder, positive = BoxCoder(), targets.positive
    anchors = anchors.astype(float_dtype(deltas))
    # Masked before use, so that a NaN in another slot cannot reach a gradient.
    deltas = jnp.where(positive[..., None], deltas, 0).astype(anchors.dtype)
    boxes = targets.boxes.astype(anchors.dtype)
    if kind == "l1":
        wanted = coder.encode(boxes, anchors, valid=positive)  # like the deltas, 0 where not positive
        sums = smooth_l1(deltas, wanted, beta=0).sum((1, 2))
    else:
        losses = generalized_box_iou_loss(coder.decode(deltas, anchors), boxes, valid=positive)
        sums = losses.sum(1)
    return _mean_over_images(sums, targets, present)


def _mean_over_images(sums: Array, targets: AnchorTargets, present: Array) -> Array:
    """The mean over the images of ``sums [B]``, each divided by its image's number of positive anchors."""
    positives = targets.positive.sum(axis=1, dtype=sums.dtype)
    values = jnp.where(present, sums / jnp.maximum(positives, 1), 0)
    return values.sum() / jnp.maximum(present.sum(dtype=sums.dtype), 1)

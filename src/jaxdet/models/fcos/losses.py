"""The three losses of FCOS, equivalent to torchvision's.

All are sums over the batch, divided by the number of its positive anchors.

Axes: B images, N anchors of an image (all levels).
"""

from __future__ import annotations

import jax.numpy as jnp
import optax
from jax import Array

from jaxdet.base import Losses
from jaxdet.heads.dense_losses import focal_sums
from jaxdet.heads.target_assignment import AnchorTargets
from jaxdet.models.fcos.outputs import FCOSOutputs
from jaxdet.ops.box_losses import generalized_box_iou_loss
from jaxdet.ops.boxes import float_dtype
from jaxdet.ops.linear_box_coder import BoxLinearCoder


def fcos_losses(outputs: FCOSOutputs, anchors: Array, targets: AnchorTargets) -> Losses:
    """``classification``, ``bbox_regression`` and ``bbox_ctrness``.

    Args:
        anchors: ``[B, N, 4]`` xyxy. Slots that are not positive may contain any values.
        targets: of the batch.
    """
    positive = targets.positive
    deltas = jnp.concatenate(outputs.deltas, axis=1)
    centerness = jnp.concatenate(outputs.centerness, axis=1)
    dtype = float_dtype(deltas)
    coder = BoxLinearCoder()
    # A box with its own centre: masked before use, so that NaN elsewhere reaches neither a loss nor a gradient.
    unit = jnp.array([0, 0, 2, 2], dtype)
    anchors, boxes = (jnp.where(positive[..., None], x.astype(dtype), unit) for x in (anchors, targets.boxes))
    deltas = jnp.where(positive[..., None], deltas, 0).astype(dtype)
    centerness = jnp.where(positive, centerness, 0).astype(dtype)
    box_losses = generalized_box_iou_loss(coder.decode(deltas, anchors), boxes, valid=positive)
    wanted = centerness_targets(coder.encode(anchors, boxes))
    centerness_losses = jnp.where(positive, optax.sigmoid_binary_cross_entropy(centerness, wanted), 0)
    count = jnp.maximum(positive.sum(dtype=dtype), 1)
    return {
        "classification": focal_sums(outputs.logits, targets).sum() / count,
        "bbox_regression": box_losses.sum() / count,
        "bbox_ctrness": centerness_losses.sum() / count,
    }


def centerness_targets(distances: Array) -> Array:
    """The centerness of locations inside of boxes (Tian et al. 2019, equation 3).

    Args:
        distances: ``[..., 4]`` to the left, top, right and bottom side, all positive.

    Returns:
        ``[...]`` in 0..1, 1 at the centre.
    """
    horizontal, vertical = distances[..., 0::2], distances[..., 1::2]
    return jnp.sqrt(
        (horizontal.min(axis=-1) / horizontal.max(axis=-1)) * (vertical.min(axis=-1) / vertical.max(axis=-1))
    )

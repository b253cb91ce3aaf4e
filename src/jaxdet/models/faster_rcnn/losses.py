"""The four losses of Faster R-CNN, equivalent to torchvision's.

Axes: B images, N anchors of an image (all levels), S samples, K classes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxdet.base import Losses
from jaxdet.heads import RoIOutputs, RPNOutputs
from jaxdet.models.faster_rcnn.targets import AnchorTargets, ProposalTargets
from jaxdet.ops.box_losses import smooth_l1
from jaxdet.ops.boxes import float_dtype


def rpn_losses(rpn: RPNOutputs, sampled: AnchorTargets, beta: float) -> Losses:
    """Objectness and box loss of the region proposal network, both divided by the number of sampled anchors."""
    logits = jnp.concatenate(rpn.logits, axis=1)  # [B, N]
    deltas = jnp.concatenate(rpn.deltas, axis=1)  # [B, N, 4]
    logits = jnp.take_along_axis(logits, sampled.indices, axis=1)  # [B, S]
    deltas = jnp.take_along_axis(deltas, sampled.indices[..., None], axis=1)
    logits, deltas = (x.astype(float_dtype(x)) for x in (logits, deltas))
    count = jnp.maximum(sampled.valid.sum(), 1)
    objectness = optax.sigmoid_binary_cross_entropy(logits, sampled.positive.astype(logits.dtype))
    positive = sampled.valid & sampled.positive
    return {
        "loss_objectness": jnp.where(sampled.valid, objectness, 0).sum() / count,
        "loss_rpn_box_reg": _box_loss(deltas, sampled.deltas, positive, beta) / count,
    }


def box_losses(outputs: RoIOutputs, sampled: ProposalTargets, beta: float, ohem: int | None = None) -> Losses:
    """Classification and box loss of the second stage, both divided by the number of sampled proposals.

    With ``ohem`` (online hard example mining, Shrivastava et al. 2016) the classification loss is the mean over the
    ``ohem`` proposals of each image with the highest loss. The box loss still uses all samples.
    """
    logits = outputs.logits.astype(float_dtype(outputs.logits))  # [B, S, K]
    deltas = jnp.take_along_axis(outputs.deltas, sampled.labels[..., None, None], axis=2)[:, :, 0]  # [B, S, 4]
    deltas = deltas.astype(float_dtype(deltas))
    count = jnp.maximum(sampled.valid.sum(), 1)
    classes = optax.softmax_cross_entropy_with_integer_labels(logits, sampled.labels)
    positive = sampled.valid & (sampled.labels > 0)
    return {
        "loss_classifier": _hardest(classes, sampled.valid, ohem),
        "loss_box_reg": _box_loss(deltas, sampled.deltas, positive, beta) / count,
    }


def _hardest(values: Array, valid: Array, count: int | None) -> Array:
    """The mean of the valid ``values [B, S]``; with a count, of each image's ``count`` highest."""
    if count is not None and count < values.shape[1]:
        _, index = jax.lax.top_k(jnp.where(valid, values, -jnp.inf), count)
        values, valid = (jnp.take_along_axis(x, index, axis=1) for x in (values, valid))
    return jnp.where(valid, values, 0).sum() / jnp.maximum(valid.sum(), 1)


def _box_loss(deltas: Array, targets: Array, positive: Array, beta: float) -> Array:
    # The inner `where` keeps an infinite target of an unused slot out of the gradient.
    targets = jnp.where(positive[..., None], targets, 0)
    return jnp.where(positive[..., None], smooth_l1(deltas, targets, beta), 0).sum()

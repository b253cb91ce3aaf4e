"""The four losses of Faster R-CNN, by torchvision's rules.

Axes: B images, N anchors of an image (all levels), S samples, K classes.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh

from jaxdet.heads import RoIOutputs, RPNOutputs
from jaxdet.models import FasterRCNN
from jaxdet.models.faster_rcnn.model import Features
from jaxdet.models.faster_rcnn.targets import AnchorTargets, ProposalTargets, sample_anchors, sample_proposals
from jaxdet.ops.boxes import float_dtype
from jaxdet.ops.smooth_l1 import smooth_l1
from jaxdet.parallel import over_images
from jaxdet.types import Detections, Images, Proposals, Targets

Losses = dict[str, Array]  # scalars, torchvision's names


def rpn_losses(rpn: RPNOutputs, sampled: AnchorTargets, beta: float) -> Losses:
    """Objectness and box loss of the region proposal network, both over the number of sampled anchors."""
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
    """Classification and box loss of the second stage, both over the number of sampled proposals.

    With ``ohem`` (online hard example mining, Shrivastava et al. 2016) the classification loss is the mean over the
    ``ohem`` proposals of each image that have the highest; the box loss still sees them all.
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
    """The mean of ``values [B, S]`` where valid; with a count, of that many of each image, the highest."""
    if count is not None and count < values.shape[1]:
        _, index = jax.lax.top_k(jnp.where(valid, values, -jnp.inf), count)
        values, valid = (jnp.take_along_axis(x, index, axis=1) for x in (values, valid))
    return jnp.where(valid, values, 0).sum() / jnp.maximum(valid.sum(), 1)


def _box_loss(deltas: Array, targets: Array, positive: Array, beta: float) -> Array:
    # The inner `where` keeps an infinite target of an unused slot out of the gradient.
    targets = jnp.where(positive[..., None], targets, 0)
    return jnp.where(positive[..., None], smooth_l1(deltas, targets, beta), 0).sum()


def losses(
    model: FasterRCNN,
    images: Images,
    targets: Targets,
    keys: Array,
    *,
    train: bool = True,
    mesh: Mesh | None = None,
) -> Losses:
    """The losses of a batch: ``loss_classifier``, ``loss_box_reg``, ``loss_objectness``, ``loss_rpn_box_reg``.

    Args:
        keys: ``[B]`` typed random keys, one an image, for the sampling of anchors and proposals.
        train: normalise by the batch's statistics and move the running ones.
    """
    return _losses(model, images, targets, keys, train=train, mesh=mesh)[0]


def losses_and_detections(
    model: FasterRCNN, images: Images, targets: Targets, keys: Array, *, mesh: Mesh | None = None
) -> tuple[Losses, Detections]:
    """Validation losses and detections from one pass through the backbone; no statistic moves."""
    values, features, rpn = _losses(model, images, targets, keys, train=False, mesh=mesh)
    proposals = model.propose(rpn, images, mesh=mesh)
    outputs = model.classify(features, proposals, images, mesh=mesh)
    return values, model.detect(outputs, proposals, images, mesh=mesh)


def _losses(
    model: FasterRCNN, images: Images, targets: Targets, keys: Array, *, train: bool, mesh: Mesh | None
) -> tuple[Losses, Features, RPNOutputs]:
    config = model.config
    features = model.features(images, train=train)
    rpn = model.rpn(features, images)
    proposals = model.propose(rpn, images, train=True, mesh=mesh)

    @jax.named_scope("sample")
    def sample(rpn: RPNOutputs, proposals: Proposals, targets: Targets, keys: Array):
        keys = jax.vmap(jax.random.split)(keys)  # [B, 2]
        anchors, known = (jnp.concatenate(x, axis=1) for x in (rpn.anchors, rpn.valid))
        of_anchors = jax.vmap(partial(sample_anchors, config=config.rpn))(keys[:, 0], anchors, known, targets)
        of_proposals = jax.vmap(partial(sample_proposals, config=config.box))(
            keys[:, 1], proposals.boxes, proposals.valid, targets
        )
        return of_anchors, of_proposals

    of_anchors, of_proposals = over_images(sample, mesh)(rpn, proposals, targets, keys)
    chosen = Proposals(of_proposals.boxes, jnp.zeros_like(of_proposals.boxes[..., 0]), of_proposals.valid)
    outputs = model.classify(features, chosen, images, train=train, mesh=mesh)
    values = box_losses(outputs, of_proposals, config.box.smooth_l1_beta, config.box.ohem)
    values |= rpn_losses(rpn, of_anchors, config.rpn.smooth_l1_beta)
    return values, features, rpn

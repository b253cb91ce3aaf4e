"""The loss and accuracy of classifiers.

Axes: B images, K classes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh

from jaxdet.backbones.base import Classifier
from jaxdet.models.faster_rcnn.losses import Losses
from jaxdet.ops.boxes import float_dtype
from jaxdet.types import Images


def classification_losses(
    model: Classifier,
    images: Images,
    labels: Array,
    keys: Array | None = None,
    *,
    train: bool = True,
    mesh: Mesh | None = None,
    label_smoothing: float = 0.0,
) -> Losses:
    """Mean cross-entropy of a batch under ``loss_cross_entropy``, as PyTorch's ``CrossEntropyLoss`` computes it.

    Args:
        labels: ``[B]`` int32, 0..K-1; a row of -1 is no image and counts for nothing.
        keys, mesh: not needed; here so that detectors and classifiers are trained by the same step.
        train: normalise by the batch's statistics and move the running ones.
        label_smoothing: share of the target that is spread over all classes.
    """
    del keys, mesh
    logits = model(images.pixels.astype(model.numerics.dtype), train=train)  # [B, K]
    return {"loss_cross_entropy": cross_entropy(logits, labels, label_smoothing)}


def cross_entropy(logits: Array, labels: Array, label_smoothing: float = 0.0) -> Array:
    """Mean over the rows whose label is not -1, in at least float32."""
    logits = logits.astype(float_dtype(logits))
    valid = labels >= 0
    target = jax.nn.one_hot(jnp.where(valid, labels, 0), logits.shape[-1], dtype=logits.dtype)
    target = optax.smooth_labels(target, label_smoothing)
    values = optax.softmax_cross_entropy(logits, target)
    return jnp.where(valid, values, 0).sum() / jnp.maximum(valid.sum(), 1)

"""Cross-entropy loss of classifiers. Axes: B images, K classes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxdet.ops.boxes import float_dtype


def cross_entropy(logits: Array, labels: Array, label_smoothing: float = 0.0) -> Array:
    """The mean over all rows with a label, in at least float32: PyTorch's ``CrossEntropyLoss``.

    Args:
        logits: ``[B, K]``.
        labels: ``[B]``, 0..K-1; -1: an empty row, which is ignored.
        label_smoothing: the fraction of the target distribution that is uniform over all classes.
    """
    logits = logits.astype(float_dtype(logits))
    valid = labels >= 0
    target = jax.nn.one_hot(jnp.where(valid, labels, 0), logits.shape[-1], dtype=logits.dtype)
    target = optax.smooth_labels(target, label_smoothing)
    values = optax.softmax_cross_entropy(logits, target)
    return jnp.where(valid, values, 0).sum() / jnp.maximum(valid.sum(), 1)

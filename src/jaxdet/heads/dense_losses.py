"""Losses that dense detectors share.

Axes: B images, N anchors of an image (all levels), N_l anchors of a level, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from jaxdet.heads.target_assignment import AnchorTargets
from jaxdet.ops.boxes import float_dtype
from jaxdet.ops.focal import sigmoid_focal_loss


def focal_sums(logits: Sequence[Array], targets: AnchorTargets) -> Array:
    """The sigmoid focal loss of all positive and negative anchors, summed over each image.

    Args:
        logits: per level ``[B, N_l, K]``. Column 0 (the background) is never a target.
        targets: of the batch.

    Returns:
        ``[B]``, at least float32.
    """
    classes = jnp.arange(logits[0].shape[-1], dtype=targets.labels.dtype)[None]

    def image_loss(logits: Array, labels: Array, positive: Array, valid: Array) -> Array:
        wanted = (labels[:, None] == classes) & positive[:, None]  # [N_l, K]
        return sigmoid_focal_loss(logits, wanted, reduction="sum", valid=valid)

    # One level at a time: a concatenation would copy the logits and their gradients.
    start, sums = 0, jnp.zeros(logits[0].shape[0], float_dtype(*logits))
    for level in logits:
        rows = slice(start, start + level.shape[1])
        parts = (targets.labels, targets.positive, targets.positive | targets.negative)
        sums += jax.vmap(image_loss)(level, *(part[:, rows] for part in parts))
        start += level.shape[1]
    return sums

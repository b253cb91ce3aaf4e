"""The focal loss of dense detectors (Lin et al. 2017)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxdet.ops.boxes import float_dtype
from jaxdet.ops.reduction import expand_valid, reduce_loss


def sigmoid_focal_loss(
    inputs: Array,
    targets: Array,
    alpha: float = 0.25,
    gamma: float = 2.0,
    reduction: str = "none",
    *,
    valid: Array | None = None,
) -> Array:
    """Binary cross-entropy, down-weighted for well-classified logits: ``torchvision.ops.sigmoid_focal_loss``.

    Args:
      inputs: logits ``[...]``.
      targets: ``[...]``, 1 for the positive and 0 for the negative class, or between.
      alpha: weight of the positive class, in [0, 1]; that of the negative class is 1 - alpha. -1: no weights.
      gamma: exponent of ``1 - p``, with p the probability of the target's class; a Python number.
      reduction: ``"none"``, ``"sum"`` or ``"mean"``. The mean is over the valid slots; without any it is 0.
      valid: bool, leading axes of ``inputs``: ``[N]`` for logits ``[N, K]``. Invalid slots have no loss and no
        gradient.

    Returns:
      ``[...]``, or a scalar, at least float32.
    """
    if alpha != -1 and not 0 <= alpha <= 1:
        raise ValueError(f"sigmoid_focal_loss: alpha must be in [0, 1], or -1 for no weights, not {alpha}.")
    if inputs.shape != targets.shape:
        raise ValueError(f"sigmoid_focal_loss: inputs {inputs.shape} and targets {targets.shape} differ in shape.")
    dtype = float_dtype(inputs)
    mask = expand_valid(valid, inputs.shape)
    logits, targets = (jnp.where(mask, values.astype(dtype), 0) for values in (inputs, targets))
    p = jax.nn.sigmoid(logits)
    # The gradients of minimum and abs at 0 would differ from that of a cross-entropy.
    negative = logits < 0
    smooth = jnp.log1p(jnp.exp(jnp.where(negative, logits, -logits)))
    cross_entropy = (1 - targets) * logits - jnp.where(negative, logits, 0) + smooth
    wrong = 1 - (p * targets + (1 - p) * (1 - targets))
    loss = cross_entropy * _power(wrong, gamma)
    if alpha != -1:
        loss = (alpha * targets + (1 - alpha) * (1 - targets)) * loss
    return reduce_loss(loss, mask, reduction)


def _power(base: Array, exponent: float) -> Array:
    """``base ** exponent`` for ``base >= 0``. The gradient at 0 is 0, also for exponents below 1 (instead of inf)."""
    if exponent == 0:
        return jnp.ones_like(base)
    positive = base > 0
    return jnp.where(positive, jnp.where(positive, base, 1) ** exponent, 0)

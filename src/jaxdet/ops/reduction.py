"""The ``reduction`` of losses over valid slots, as in torchvision."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

REDUCTIONS = ("none", "sum", "mean")


def expand_valid(valid: Array | None, shape: tuple[int, ...]) -> Array:
    """Broadcasts ``valid``, which has the leading axes of ``shape``, to ``shape``; None: all true."""
    if valid is None:
        return jnp.ones(shape, bool)
    if valid.shape != shape[: valid.ndim]:
        raise ValueError(f"valid {valid.shape} must have the leading axes of the losses, {shape}.")
    return jnp.broadcast_to(valid.reshape(valid.shape + (1,) * (len(shape) - valid.ndim)), shape)


def reduce_loss(loss: Array, valid: Array, reduction: str) -> Array:
    """Reduces ``loss`` over its valid slots.

    Args:
      loss: any shape; invalid slots have to be finite if gradients are needed.
      valid: bool of the same shape.
      reduction: ``"none"`` (invalid slots are 0), ``"sum"``, or ``"mean"`` over the valid slots (0 without any).
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, not {reduction!r}.")
    loss = jnp.where(valid, loss, 0)
    if reduction == "none":
        return loss
    total = loss.sum()
    return total if reduction == "sum" else total / jnp.maximum(valid.sum(dtype=loss.dtype), 1)

"""The ``reduction`` of torchvision's losses, over the slots that are valid."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

REDUCTIONS = ("none", "sum", "mean")


def expand_valid(valid: Array | None, shape: tuple[int, ...]) -> Array:
    """``valid`` of the leading axes of ``shape``, broadcast to all of them; all true where it is None."""
    if valid is None:
        return jnp.ones(shape, bool)
    if valid.shape != shape[: valid.ndim]:
        raise ValueError(f"valid {valid.shape} has to be the leading axes of the losses, {shape}.")
    return jnp.broadcast_to(valid.reshape(valid.shape + (1,) * (len(shape) - valid.ndim)), shape)


def reduce_loss(loss: Array, valid: Array, reduction: str) -> Array:
    """Reduce ``loss``, whose other slots count as absent.

    Args:
      loss: any shape; slots that are not valid may hold anything finite (where it has a gradient).
      valid: bool of the same shape.
      reduction: ``"none"`` (those slots are 0), ``"sum"``, or ``"mean"`` over the valid slots; without any, 0.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is one of {', '.join(REDUCTIONS)}, not {reduction!r}.")
    loss = jnp.where(valid, loss, 0)
    if reduction == "none":
        return loss
    total = loss.sum()
    return total if reduction == "sum" else total / jnp.maximum(valid.sum(dtype=loss.dtype), 1)

"""The box loss on encoded offsets: PyTorch's ``smooth_l1_loss`` and ``l1_loss``."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array


def smooth_l1(prediction: Array, target: Array, beta: float) -> Array:
    """PyTorch's ``smooth_l1_loss`` elementwise: quadratic below ``beta``, linear above; ``beta=0`` is L1."""
    difference = prediction - target
    error = difference * jnp.sign(difference)  # the gradient of abs at 0 is 1 in JAX and 0 in PyTorch
    if beta == 0:
        return error
    return jnp.where(error < beta, 0.5 * jnp.square(error) / beta, error - 0.5 * beta)

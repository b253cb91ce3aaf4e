"""Activations that are numerically equivalent to PyTorch's, including the gradients at their kinks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax


def relu6(x: Array) -> Array:
    """``min(max(x, 0), 6)``. The gradient at 0 and 6 is 0; that of ``jax.nn.relu6`` is 0.5."""
    return jnp.where((x > 0) & (x < 6), x, lax.stop_gradient(jnp.clip(x, 0, 6)))


def leaky_relu(x: Array, negative_slope: float) -> Array:
    """``x`` above 0, else ``negative_slope * x``. The gradient at 0 is the slope (1 in ``jax.nn.leaky_relu``)."""
    return jnp.where(x > 0, x, negative_slope * x)


def hard_sigmoid(x: Array) -> Array:
    """``relu6(x + 3) / 6`` in at least float32. The gradient at -3 and 3 is 0."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (relu6(wide + 3) / 6).astype(x.dtype)


def hard_swish(x: Array) -> Array:
    """``x * relu6(x + 3) / 6`` in at least float32 (Howard et al. 2019). The gradient is 0 at -3 and 1 at 3."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (wide * relu6(wide + 3) / 6).astype(x.dtype)


_KINDS = {
    "relu": jax.nn.relu,
    "relu6": relu6,
    "sigmoid": jax.nn.sigmoid,
    "hard_sigmoid": hard_sigmoid,
    "hard_swish": hard_swish,
}


class Activation(nnx.Module):
    """An activation by name: ``"relu"``, ``"relu6"``, ``"sigmoid"``, ``"hard_sigmoid"``, ``"hard_swish"``,
    ``"leaky_relu"``."""

    def __init__(self, kind: str = "relu", *, negative_slope: float = 0.0):
        known = (*_KINDS, "leaky_relu")
        if kind not in known:
            raise ValueError(f"unknown activation {kind!r}; known: {', '.join(known)}")
        self.kind = kind
        self.negative_slope = negative_slope

    def __call__(self, x: Array) -> Array:
        return leaky_relu(x, self.negative_slope) if self.kind == "leaky_relu" else _KINDS[self.kind](x)

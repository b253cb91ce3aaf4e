"""Products and quotients that compilers do not rewrite, so that each is rounded once as in PyTorch.

XLA replaces a division by a constant, or by a broadcast array, by a multiplication with the reciprocal (which changes
55% of the quotients by 7), and LLVM contracts a product and a following sum into a fused multiply-add. For a coordinate
on a large feature map this amounts to about 1e-5 of a cell.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


@jax.custom_jvp
def rounded(product: Array) -> Array:
    """``product`` unchanged, with gradient 1, but not contracted with a following sum."""
    return jnp.where(product < 0, jnp.minimum(product, 0), jnp.maximum(product, 0))


@rounded.defjvp
def _rounded_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # At zero the derivative of the expression above would be 0.5.
    return rounded(*primals), tangents[0]


def quotient(dividend: Array, divisor: float | Array) -> Array:
    """``dividend / divisor`` by a true division."""
    # The compiler takes a divisor that depends on the dividend (here only for NaN) for neither constant nor broadcast.
    return dividend / jnp.where(jnp.isnan(dividend), 1, jnp.asarray(divisor, dividend.dtype))

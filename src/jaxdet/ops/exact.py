"""Products and quotients rounded once each, as written: what compilers may otherwise change by an ulp.

PyTorch's kernels round every operation. XLA rewrites a division by a constant, or by a broadcast array, into a product
with its reciprocal (55% of the quotients by 7 change), and LLVM contracts a product and a following sum into a fused
multiply-add. For a coordinate on a large feature map that is some 1e-5 of a cell.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


@jax.custom_jvp
def rounded(product: Array) -> Array:
    """``product`` unchanged, with a gradient of 1, but not contracted with the sum it goes into."""
    return jnp.where(product < 0, jnp.minimum(product, 0), jnp.maximum(product, 0))


@rounded.defjvp
def _rounded_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # At zero the derivative of what stands above would be a half.
    return rounded(*primals), tangents[0]


def quotient(dividend: Array, divisor: float | Array) -> Array:
    """``dividend / divisor`` by a true division (NaN stays NaN)."""
    # A divisor that depends on the dividend, if only for NaN, is neither constant nor broadcast to the compiler.
    return dividend / jnp.where(jnp.isnan(dividend), 1, jnp.asarray(divisor, dividend.dtype))

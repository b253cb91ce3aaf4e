"""Making a result independent of how much padding its canvas has.

An image's *extent* is its height and width rounded up to a multiple of 32: what PyTorch would have computed on,
had the image been alone. A feature map may hold anything beyond its extent; whoever looks across pixels (a 3x3
convolution, a pooling, a batch statistic) masks first, and so sees the zeros that PyTorch's padding sees.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

SIZE_DIVISIBLE = 32  # torchvision's GeneralizedRCNNTransform pads to this


def image_extents(sizes: Array) -> Array:
    """True sizes ``[B, 2]`` (height, width) rounded up to multiples of 32, of which an empty slot has one."""
    return jnp.maximum(-(-sizes // SIZE_DIVISIBLE), 1) * SIZE_DIVISIBLE


def strided(extents: Array | None, stride: int) -> Array | None:
    """The extents after an operation of this stride with PyTorch's symmetric padding: ``ceil(n / stride)``."""
    return None if extents is None else -(-extents // stride)


def inside(extents: Array, height: int, width: int) -> Array:
    """Which pixels of a ``[B, height, width, C]`` map lie in its extents ``[B, 2]``: bool ``[B, height, width, 1]``."""
    rows = jnp.arange(height)[None, :, None, None] < extents[:, 0, None, None, None]
    columns = jnp.arange(width)[None, None, :, None] < extents[:, 1, None, None, None]
    return rows & columns


def own_pixels(extents: Array, height: int, width: int) -> Array:
    """How many pixels of a map of this size lie in its extents ``[B, 2]``: ``[B]`` int, at least 1 to divide by."""
    limits = jnp.array([height, width], extents.dtype)[None]
    return jnp.maximum(jnp.prod(jnp.clip(extents, 0, limits), axis=1), 1)


def mask(x: Array, extents: Array | None) -> Array:
    """``x [B, H, W, C]`` with zeros beyond its extents; unchanged where ``extents`` is None (no padding)."""
    if extents is None:
        return x
    return jnp.where(inside(extents, x.shape[1], x.shape[2]), x, jnp.zeros((), x.dtype))

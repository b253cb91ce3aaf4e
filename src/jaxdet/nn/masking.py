"""Masking, which makes results independent of the padding of the canvas.

An image's *extent* is its height and width rounded up to a multiple of 32: the size that PyTorch would compute on for
this image alone. Feature maps are undefined outside of their extents. Operations that read neighbouring pixels (3x3
convolutions, pooling, batch statistics) mask their input first, which gives the zeros of PyTorch's padding.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

SIZE_DIVISIBLE = 32  # torchvision's GeneralizedRCNNTransform pads to this


def image_extents(sizes: Array) -> Array:
    """Image sizes ``[B, 2]`` (height, width), rounded up to multiples of 32; empty slots get 32."""
    return jnp.maximum(-(-sizes // SIZE_DIVISIBLE), 1) * SIZE_DIVISIBLE


def strided(extents: Array | None, stride: int) -> Array | None:
    """The extents after an operation with this stride and PyTorch's symmetric padding: ``ceil(n / stride)``."""
    return None if extents is None else -(-extents // stride)


def inside(extents: Array, height: int, width: int) -> Array:
    """Whether each pixel of a map lies in its extents ``[B, 2]``: bool ``[B, height, width, 1]``."""
    rows = jnp.arange(height)[None, :, None, None] < extents[:, 0, None, None, None]
    columns = jnp.arange(width)[None, None, :, None] < extents[:, 1, None, None, None]
    return rows & columns


def own_pixels(extents: Array, height: int, width: int) -> Array:
    """The number of pixels of a map in its extents ``[B, 2]``: int ``[B]``, at least 1 to allow division."""
    limits = jnp.array([height, width], extents.dtype)[None]
    return jnp.maximum(jnp.prod(jnp.clip(extents, 0, limits), axis=1), 1)


def mask(x: Array, extents: Array | None) -> Array:
    """``x [B, H, W, C]`` with zeros outside of its extents ``[B, 2]``; unchanged if these are None (no padding)."""
    if extents is None:
        return x
    return jnp.where(inside(extents, x.shape[1], x.shape[2]), x, jnp.zeros((), x.dtype))

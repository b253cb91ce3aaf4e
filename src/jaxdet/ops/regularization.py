"""Stochastic depth (Huang et al. 2016) and DropBlock (Ghiasi et al. 2018), with explicit random keys.

Random draws agree with torchvision's in distribution; the results for a given draw agree numerically.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax


def stochastic_depth(input: Array, p: float, mode: str, training: bool = True, *, key: Array | None = None) -> Array:
    """Zeroes rows of a batch at random and scales the others by ``1 / (1 - p)``: ``torchvision.ops.stochastic_depth``.

    Args:
      input: ``[N, ...]``.
      p: probability of being zeroed, in [0, 1]; a Python number.
      mode: ``"row"``: each row independently; ``"batch"``: all or none.
      training: False returns the input.
      key: a JAX random key; needed if ``training`` and ``p > 0``.

    Returns:
      An array like ``input``. With p = 1 it is zero.
    """
    _check_probability("stochastic_depth", p)
    if mode not in ("batch", "row"):
        raise ValueError(f'stochastic_depth: mode must be "batch" or "row", not {mode!r}.')
    if not training or p == 0:
        return input
    shape = (input.shape[0] if mode == "row" else 1,) + (1,) * (input.ndim - 1)
    survives = jax.random.bernoulli(_needed("stochastic_depth", key), 1 - p, shape)
    return jnp.where(survives, input * (1 / (1 - p)) if p < 1 else input, 0).astype(input.dtype)


def drop_block2d(
    input: Array,
    p: float,
    block_size: int,
    *,
    eps: float = 1e-6,
    training: bool = True,
    key: Array | None = None,
    extents: Array | None = None,
) -> Array:
    """Zeroes square blocks of each channel at random and scales the rest up: ``torchvision.ops.drop_block2d``.

    Args:
      input: ``[N, H, W, C]``.
      p: the approximate fraction of values to zero, in [0, 1]; a Python number.
      block_size: side of a block, odd; at most the map's shorter side.
      eps: added to the number of remaining values, the divisor of the scale.
      training: False returns the input.
      key: a JAX random key; needed if ``training`` and ``p > 0``.
      extents: ``[N, 2]``, (height, width) of the part of each map that is not padding. Blocks are inside of it, and the
        fraction and the scale refer to it. Maps smaller than a block are kept.

    Returns:
      An array like ``input``. As in torchvision, the whole batch has the same scale.
    """
    return _drop_block("drop_block2d", 2, input, p, block_size, eps, training, key, extents)


def drop_block3d(
    input: Array,
    p: float,
    block_size: int,
    *,
    eps: float = 1e-6,
    training: bool = True,
    key: Array | None = None,
    extents: Array | None = None,
) -> Array:
    """`drop_block2d` for cubes, ``input [N, D, H, W, C]`` and ``extents [N, 3]``: ``torchvision.ops.drop_block3d``."""
    return _drop_block("drop_block3d", 3, input, p, block_size, eps, training, key, extents)


def _drop_block(
    name: str,
    axes: int,
    input: Array,
    p: float,
    block_size: int,
    eps: float,
    training: bool,
    key: Array | None,
    extents: Array | None,
) -> Array:
    _check_probability(name, p)
    if input.ndim != axes + 2:
        raise ValueError(f"{name}: expected {axes + 2} axes, batch first and channels last, got {input.shape}.")
    if not training or p == 0:
        return input
    sides = input.shape[1:-1]
    block = min(block_size, *sides)
    if block % 2 == 0:
        raise ValueError(f"{name}: the block size must be odd, got {block} (of {block_size} on a map of {sides}).")
    dtype = jnp.promote_types(input.dtype, jnp.float32)
    if extents is None:
        extents = jnp.array([sides], jnp.int32)
    inside = _below(extents, sides)  # [N or 1, ..., 1], not padding
    # Blocks are drawn by their first corners.
    places = jnp.maximum(extents - block + 1, 0)
    size, corners = (jnp.prod(lengths.astype(dtype), axis=1) for lengths in (extents, places))
    gamma = p * size / (block**axes * jnp.maximum(corners, 1))  # [N or 1]
    gamma = jnp.clip(gamma, 0, 1).reshape(-1, *(1,) * (axes + 1))
    drawn = jax.random.bernoulli(_needed(name, key), gamma, input.shape)
    drawn &= _below(places, sides)
    window = (1, *(block,) * axes, 1)
    reach = ((0, 0), *((block - 1, 0),) * axes, (0, 0))
    dropped = lax.reduce_window(drawn, False, lax.bitwise_or, window, (1,) * input.ndim, reach)
    kept = inside & ~dropped
    values = jnp.broadcast_to(inside, input.shape).sum(dtype=dtype)
    scale = values / (eps + kept.sum(dtype=dtype))
    return jnp.where(kept, input * scale, 0).astype(input.dtype)


def _below(limits: Array, sides: Sequence[int]) -> Array:
    """Whether each position of a map is below ``limits [N, axes]``: ``[N, *sides, 1]`` bool."""
    axes = len(sides)
    result = jnp.ones((), bool).reshape((1,) * (axes + 2))
    for axis, side in enumerate(sides):
        place = jnp.arange(side).reshape([side if i == axis + 1 else 1 for i in range(axes + 2)])
        result = result & (place < limits[:, axis].reshape(-1, *(1,) * (axes + 1)))
    return result


def _check_probability(name: str, p: float) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: p must be in [0, 1], not {p}.")


def _needed(name: str, key: Array | None) -> Array:
    if key is None:
        raise ValueError(f"{name}: training needs a random key: give key=jax.random.key(...), a new one each step.")
    return key

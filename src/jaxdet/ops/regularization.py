"""Stochastic depth (Huang et al. 2016) and DropBlock (Ghiasi et al. 2018), with explicit keys.

The draws are JAX's: they agree with torchvision's in distribution. What is made of a draw agrees in numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax


def stochastic_depth(input: Array, p: float, mode: str, training: bool = True, *, key: Array | None = None) -> Array:
    """Zero whole rows of a batch at random, and divide the others by their probability: ``torchvision``'s.

    Args:
      input: ``[N, ...]``.
      p: probability of being zeroed, in [0, 1]; a Python number.
      mode: ``"row"``: each row on its own; ``"batch"``: all or none.
      training: False returns the input.
      key: of the draw; needed where something may be zeroed.

    Returns:
      The shape and dtype of ``input``. With p = 1 all is zero.
    """
    _check_probability("stochastic_depth", p)
    if mode not in ("batch", "row"):
        raise ValueError(f'stochastic_depth: mode is "batch" or "row", not {mode!r}.')
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
    """Zero square blocks of each channel at random, and scale what is left up: ``torchvision.ops.drop_block2d``.

    Args:
      input: ``[N, H, W, C]``.
      p: share that is zeroed, about, in [0, 1]; a Python number.
      block_size: side of a block, odd; the map's shorter side where that is smaller.
      eps: added to the number of values that are left, by which the scale divides.
      training: False returns the input.
      key: of the draw; needed where something may be zeroed.
      extents: ``[N, 2]``, (height, width) of each image's own part of the map: blocks lie in it, and shares and scale
        are computed from it. An image smaller than a block keeps all. What lies beyond may hold anything.

    Returns:
      The shape and dtype of ``input``. As in torchvision, the scale is one for the whole batch.
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
    """The same of cubes, ``input [N, D, H, W, C]`` and ``extents [N, 3]``: ``torchvision.ops.drop_block3d``."""
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
        raise ValueError(f"{name}: input has {axes + 2} axes, batch first and channels last, got {input.shape}.")
    if not training or p == 0:
        return input
    sides = input.shape[1:-1]
    block = min(block_size, *sides)
    if block % 2 == 0:
        raise ValueError(f"{name}: a block has an odd side, got {block} (of {block_size} on a map of {sides}).")
    dtype = jnp.promote_types(input.dtype, jnp.float32)
    if extents is None:
        extents = jnp.array([sides], jnp.int32)
    own = _below(extents, sides)  # [N or 1, ..., 1], where the image is
    # A block is drawn by its first corner, of which there are these.
    places = jnp.maximum(extents - block + 1, 0)
    size, corners = (jnp.prod(lengths.astype(dtype), axis=1) for lengths in (extents, places))
    gamma = p * size / (block**axes * jnp.maximum(corners, 1))  # [N or 1]
    gamma = jnp.clip(gamma, 0, 1).reshape(-1, *(1,) * (axes + 1))
    drawn = jax.random.bernoulli(_needed(name, key), gamma, input.shape)
    drawn &= _below(places, sides)
    window = (1, *(block,) * axes, 1)
    reach = ((0, 0), *((block - 1, 0),) * axes, (0, 0))
    dropped = lax.reduce_window(drawn, False, lax.bitwise_or, window, (1,) * input.ndim, reach)
    kept = own & ~dropped
    values = jnp.broadcast_to(own, input.shape).sum(dtype=dtype)
    scale = values / (eps + kept.sum(dtype=dtype))
    return jnp.where(kept, input * scale, 0).astype(input.dtype)


def _below(limits: Array, sides: Sequence[int]) -> Array:
    """Which places of a map lie before ``limits [N, axes]``: ``[N, *sides, 1]`` bool."""
    axes = len(sides)
    result = jnp.ones((), bool).reshape((1,) * (axes + 2))
    for axis, side in enumerate(sides):
        place = jnp.arange(side).reshape([side if i == axis + 1 else 1 for i in range(axes + 2)])
        result = result & (place < limits[:, axis].reshape(-1, *(1,) * (axes + 1)))
    return result


def _check_probability(name: str, p: float) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: a probability is in [0, 1], not {p}.")


def _needed(name: str, key: Array | None) -> Array:
    if key is None:
        raise ValueError(f"{name}: training needs a key; give key=jax.random.key(...), another one each step.")
    return key

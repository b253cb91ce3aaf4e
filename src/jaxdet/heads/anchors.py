"""Anchor generation, equivalent to torchvision's ``AnchorGenerator``.

Axes: B images, A anchors per location, N = H * W * A anchors of a level, ordered by row, column, anchor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
from jax import Array

Levels = tuple[tuple[float, ...], ...]


def _per_level(value: Sequence[Any], levels: int | None) -> Levels:
    """Expands torchvision's shorthand: plain numbers are one size per level, or the same ratios on all levels."""
    if all(isinstance(item, (list, tuple)) for item in value):
        return tuple(tuple(item) for item in value)
    return tuple((item,) for item in value) if levels is None else (tuple(value),) * levels


@dataclass(frozen=True)
class AnchorGenerator:
    """Generates ``len(sizes[l]) * len(aspect_ratios[l])`` anchors at every location of level ``l``.

    sizes: square roots of the anchor areas in pixels, per level; ``(32, 64)`` is short for ``((32,), (64,))``.
    aspect_ratios: height / width, per level; ``(0.5, 1.0)`` is short for the same ratios on all levels.
    whole_steps: round the distance between anchors down to whole pixels, as torchvision does since 0.5; False: use
        image size / map size unrounded, as before. They differ if the image size is not a multiple of the map size.
    """

    sizes: Levels | tuple[float, ...] = ((128, 256, 512),)
    aspect_ratios: Levels | tuple[float, ...] = ((0.5, 1.0, 2.0),)
    whole_steps: bool = True

    def __post_init__(self) -> None:
        sizes = _per_level(self.sizes, None)
        ratios = _per_level(self.aspect_ratios, len(sizes))
        if len(sizes) != len(ratios):
            raise ValueError(
                f"anchor sizes for {len(sizes)} levels, but aspect ratios for {len(ratios)}: give one "
                "tuple of each per level"
            )
        object.__setattr__(self, "sizes", sizes)
        object.__setattr__(self, "aspect_ratios", ratios)

    def num_anchors_per_location(self) -> list[int]:
        return [len(sizes) * len(ratios) for sizes, ratios in self._levels]

    @cached_property
    def cell_anchors(self) -> tuple[np.ndarray, ...]:
        """Per level, the anchors ``[A, 4]`` around the origin, ordered by ratio, then size; rounded to whole pixels."""
        return tuple(_cell_anchors(*level) for level in self._levels)

    @property
    def _levels(self) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
        return list(zip(cast(Levels, self.sizes), cast(Levels, self.aspect_ratios), strict=True))

    def __call__(
        self, shapes: Sequence[tuple[int, int]], extents: Array, grids: Sequence[Array]
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Anchors of a batch.

        Args:
            shapes: (height, width) of each level's feature map.
            extents: ``[B, 2]`` height and width of each image, rounded up to a multiple of 32.
            grids: per level ``[B, 2]``, the height and width of the part of the feature map that is not padding.

        Returns:
            Per level, the anchors ``[B, N, 4]`` (xyxy in pixels, not clipped to the image) and whether they are valid
            ``[B, N]``, that is, not in padding. The distance between anchors is ``extent // grid``, as in torchvision:
            at height 800 the sixth level has 13 rows at a distance of 61 pixels, not 64.
        """
        if len(shapes) != len(self.sizes):
            raise ValueError(
                f"anchor sizes are given for {len(self.sizes)} levels, but there are {len(shapes)} feature maps: "
                "give one tuple of sizes and one of aspect ratios per feature map"
            )
        levels = [
            _grid_anchors(cell, shape, extents, grid, self.whole_steps)
            for cell, shape, grid in zip(self.cell_anchors, shapes, grids, strict=True)
        ]
        return tuple(boxes for boxes, _ in levels), tuple(valid for _, valid in levels)


def _cell_anchors(sizes: tuple[float, ...], ratios: tuple[float, ...]) -> np.ndarray:
    """Computed in float32, as in torchvision: the rounding of half pixels depends on it."""
    height = np.sqrt(np.asarray(ratios, np.float32))
    width = np.float32(1) / height
    scales = np.asarray(sizes, np.float32)
    widths = (width[:, None] * scales[None, :]).reshape(-1)
    heights = (height[:, None] * scales[None, :]).reshape(-1)
    return np.round(np.stack([-widths, -heights, widths, heights], axis=1) / np.float32(2))  # [A, 4]


def _grid_anchors(
    cell: np.ndarray, shape: tuple[int, int], extents: Array, grid: Array, whole_steps: bool
) -> tuple[Array, Array]:
    batch, (height, width) = extents.shape[0], shape
    step = extents // grid if whole_steps else extents.astype(jnp.float32) / grid.astype(jnp.float32)  # [B, 2]
    y = jnp.arange(height)[None, :] * step[:, :1]  # [B, H]
    x = jnp.arange(width)[None, :] * step[:, 1:]  # [B, W]
    y, x = jnp.broadcast_arrays(y[:, :, None], x[:, None, :])
    shifts = jnp.stack([x, y, x, y], axis=-1)  # [B, H, W, 4]
    boxes = shifts[:, :, :, None] + jnp.asarray(cell)[None, None, None]  # [B, H, W, A, 4]
    valid_y = jnp.arange(height)[None, :] < grid[:, :1]
    valid_x = jnp.arange(width)[None, :] < grid[:, 1:]
    valid = valid_y[:, :, None, None] & valid_x[:, None, :, None]  # [B, H, W, 1]
    valid = jnp.broadcast_to(valid, (batch, height, width, len(cell)))
    return boxes.reshape(batch, -1, 4), valid.reshape(batch, -1)

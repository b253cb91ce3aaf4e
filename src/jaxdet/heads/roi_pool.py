"""RoIAlign over a feature pyramid: each proposal is pooled from the level for its size.

Axes: B images, L levels, R proposals, P x P output cells, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxdet.ops.boxes import box_area, float_dtype
from jaxdet.ops.roi.align import multiscale_roi_align

CANONICAL_SIZE, CANONICAL_LEVEL = 224, 4  # Lin et al. 2016, equation 1
LEVEL_EPS = 1e-6


def assign_levels(
    boxes: Array,
    strides: Sequence[int],
    *,
    canonical_scale: int = CANONICAL_SIZE,
    canonical_level: int = CANONICAL_LEVEL,
) -> Array:
    """The index ``[...]`` int32 of the level that each box ``[..., 4]`` is pooled from (torchvision's ``LevelMapper``).

    The level is ``floor(4 + log2(sqrt(area) / 224) + 1e-6)``, clamped to the existing levels; level 2 has stride 4.
    ``canonical_level`` and ``canonical_scale`` replace 4 and 224.
    """
    lowest, highest = (round(math.log2(stride)) for stride in (strides[0], strides[-1]))
    side = jnp.sqrt(box_area(boxes))
    level = jnp.floor(canonical_level + jnp.log2(side / canonical_scale) + LEVEL_EPS)
    level = jnp.where(jnp.isnan(level), lowest, level)  # padded slots may contain NaN
    return (jnp.clip(level, lowest, highest) - lowest).astype(jnp.int32)


def pool_proposals(
    maps: Sequence[Array],
    boxes: Array,
    valid: Array,
    strides: Sequence[int],
    *,
    output_size: int | tuple[int, int] = 7,
    sampling_ratio: int = 2,
    extents: Sequence[Array] | None = None,
    canonical_scale: int = CANONICAL_SIZE,
    canonical_level: int = CANONICAL_LEVEL,
) -> Array:
    """Pools every proposal from the level for its size, as torchvision's ``MultiScaleRoIAlign``.

    The strides are given; torchvision infers them from the height of its first image, incorrectly for thin images. As
    in torchvision, if the strides do not double from level to level, proposals beyond the last level give zeros.

    Args:
        maps: per level ``[B, H_l, W_l, C]``, highest resolution first.
        boxes: ``[B, R, 4]`` xyxy in input pixels.
        valid: ``[B, R]``; invalid slots give zeros.
        strides: per level, in input pixels.
        extents: per level ``[B, 2]``, the size of the part to sample from; None: the whole map.
        canonical_scale, canonical_level: see `assign_levels`.

    Returns:
        ``[B, R, P, P, C]``.
    """
    boxes = boxes.astype(float_dtype(boxes))
    levels = assign_levels(boxes, strides, canonical_scale=canonical_scale, canonical_level=canonical_level)
    valid = valid & (levels < len(strides))
    scales = tuple(1 / stride for stride in strides)

    def one_image(maps: list[Array], boxes: Array, levels: Array, valid: Array, extents: Array | None = None) -> Array:
        return multiscale_roi_align(
            maps, boxes, levels, output_size, scales, sampling_ratio, valid=valid, extents=extents
        )

    if extents is None:
        return jax.vmap(one_image)(list(maps), boxes, levels, valid)
    return jax.vmap(one_image)(list(maps), boxes, levels, valid, jnp.stack(list(extents), axis=1))


class MultiScaleRoIAlign(nnx.Module):
    """torchvision's ``MultiScaleRoIAlign``: `pool_proposals` with named maps.

    Args:
        featmap_names: names of the maps to pool from, highest resolution first; others are ignored.
        output_size: P, or (height, width).
        sampling_ratio: of RoIAlign; 0 or below: adaptive.
        canonical_scale, canonical_level: a box with sides of ``canonical_scale`` is pooled from ``canonical_level``.
    """

    def __init__(
        self,
        featmap_names: Sequence[str],
        output_size: int | tuple[int, int],
        sampling_ratio: int,
        *,
        canonical_scale: int = CANONICAL_SIZE,
        canonical_level: int = CANONICAL_LEVEL,
    ):
        self.featmap_names = tuple(featmap_names)
        self.output_size = output_size
        self.sampling_ratio = sampling_ratio
        self.canonical_scale, self.canonical_level = canonical_scale, canonical_level

    def __call__(
        self,
        maps: Mapping[str, Array],
        boxes: Array,
        valid: Array,
        strides: Mapping[str, int],
        extents: Mapping[str, Array] | None = None,
    ) -> Array:
        """Pools every box from the map for its size.

        Args:
            maps: ``[B, H_l, W_l, C]`` by name.
            boxes: ``[B, R, 4]`` xyxy in input pixels.
            valid: ``[B, R]``; invalid slots give zeros.
            strides: by name, in input pixels. torchvision infers them from the sizes of its images.
            extents: by name ``[B, 2]``, the size of the part to sample from; None: the whole map.

        Returns:
            ``[B, R, P, P, C]``.
        """
        missing = [name for name in self.featmap_names if name not in maps or name not in strides]
        if missing:
            raise ValueError(
                f"MultiScaleRoIAlign pools from {', '.join(self.featmap_names)}, but {', '.join(missing)} missing "
                f"in maps or strides (maps: {', '.join(maps)})"
            )
        return pool_proposals(
            [maps[name] for name in self.featmap_names],
            boxes,
            valid,
            [strides[name] for name in self.featmap_names],
            output_size=self.output_size,
            sampling_ratio=self.sampling_ratio,
            extents=None if extents is None else [extents[name] for name in self.featmap_names],
            canonical_scale=self.canonical_scale,
            canonical_level=self.canonical_level,
        )

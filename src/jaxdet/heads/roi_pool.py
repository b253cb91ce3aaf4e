"""RoIAlign over a feature pyramid: each proposal is pooled from the level that fits its size.

Axes: B images, L levels, R proposals, P x P output cells, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from jaxdet.ops.boxes import box_area, float_dtype
from jaxdet.ops.roi_align import multiscale_roi_align

CANONICAL_SIZE, CANONICAL_LEVEL = 224, 4  # Lin et al. 2016, equation 1
LEVEL_EPS = 1e-6


def assign_levels(boxes: Array, strides: Sequence[int]) -> Array:
    """Which of the levels a box ``[..., 4]`` is pooled from, ``[...]`` int32: torchvision's ``LevelMapper``.

    ``floor(4 + log2(sqrt(area) / 224) + 1e-6)``, clamped to the levels there are; level 2 is the one of stride 4.
    """
    lowest, highest = (round(math.log2(stride)) for stride in (strides[0], strides[-1]))
    side = jnp.sqrt(box_area(boxes))
    level = jnp.floor(CANONICAL_LEVEL + jnp.log2(side / CANONICAL_SIZE) + LEVEL_EPS)
    level = jnp.where(jnp.isnan(level), lowest, level)  # padded slots may hold NaN
    return (jnp.clip(level, lowest, highest) - lowest).astype(jnp.int32)


def pool_proposals(
    maps: Sequence[Array],
    boxes: Array,
    valid: Array,
    strides: Sequence[int],
    *,
    output_size: int = 7,
    sampling_ratio: int = 2,
    extents: Sequence[Array] | None = None,
) -> Array:
    """torchvision's ``MultiScaleRoIAlign`` with the levels' true strides.

    torchvision infers the strides from its first picture's height, wrongly for thin pictures. As there, a pyramid that
    leaves strides out has fewer maps than sizes of proposals: those beyond the last map give zeros.

    Args:
        maps: per level ``[B, H_l, W_l, C]``, highest resolution first.
        boxes: ``[B, R, 4]`` xyxy in input pixels.
        valid: ``[B, R]``; other slots give zeros.
        strides: of the levels, in input pixels.
        extents: per level ``[B, 2]``: sampling ends there; None: at the map's end.

    Returns:
        ``[B, R, P, P, C]``.
    """
    boxes = boxes.astype(float_dtype(boxes))
    levels = assign_levels(boxes, strides)
    valid = valid & (levels < len(strides))
    scales = tuple(1 / stride for stride in strides)

    def one_image(maps: list[Array], boxes: Array, levels: Array, valid: Array, extents: Array | None = None) -> Array:
        return multiscale_roi_align(
            maps, boxes, levels, output_size, scales, sampling_ratio, valid=valid, extents=extents
        )

    if extents is None:
        return jax.vmap(one_image)(list(maps), boxes, levels, valid)
    return jax.vmap(one_image)(list(maps), boxes, levels, valid, jnp.stack(list(extents), axis=1))

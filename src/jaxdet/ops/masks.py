"""Operators on binary masks of objects."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array


def masks_to_boxes(masks: Array, *, valid: Array | None = None) -> Array:
    """The bounding box of each mask, as ``torchvision.ops.masks_to_boxes``.

    As there, x2 and y2 are the last pixel, not the one after it: a mask of one pixel has a box without area.

    Args:
      masks: ``[..., H, W]``; nonzero pixels belong to the object.
      valid: ``[...]`` bool; invalid slots give zeros.

    Returns:
      ``[..., 4]`` float32 xyxy; zeros for an empty mask.
    """
    inside = jnp.asarray(masks) != 0
    some = inside.any((-2, -1))
    if valid is not None:
        some &= valid

    def ends(line: Array) -> tuple[Array, Array]:
        return jnp.argmax(line, axis=-1), line.shape[-1] - 1 - jnp.argmax(line[..., ::-1], axis=-1)

    (x1, x2), (y1, y2) = ends(inside.any(-2)), ends(inside.any(-1))
    return jnp.where(some[..., None], jnp.stack([x1, y1, x2, y2], axis=-1).astype(jnp.float32), 0)

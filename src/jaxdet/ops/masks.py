"""Binary masks of objects."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array


def masks_to_boxes(masks: Array, *, valid: Array | None = None) -> Array:
    """The box around each mask, as ``torchvision.ops.masks_to_boxes``.

    As there, a box ends at its last pixel and not behind it: a mask of one pixel has a box without area.

    Args:
      masks: ``[..., H, W]``; what is not zero belongs to the object.
      valid: ``[...]`` bool; the other slots give zeros.

    Returns:
      ``[..., 4]`` float32 xyxy; zeros for a mask without a pixel.
    """
    inside = jnp.asarray(masks) != 0
    some = inside.any((-2, -1))
    if valid is not None:
        some &= valid

    def ends(line: Array) -> tuple[Array, Array]:
        return jnp.argmax(line, axis=-1), line.shape[-1] - 1 - jnp.argmax(line[..., ::-1], axis=-1)

    (x1, x2), (y1, y2) = ends(inside.any(-2)), ends(inside.any(-1))
    return jnp.where(some[..., None], jnp.stack([x1, y1, x2, y2], axis=-1).astype(jnp.float32), 0)

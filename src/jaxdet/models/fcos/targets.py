"""Target assignment of FCOS.

Axes: N anchors of an image (all levels), G ground-truth boxes. The functions take one image; callers vmap them.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxdet.heads.target_assignment import AnchorTargets, known_boxes, outside_ignored
from jaxdet.ops.boxes import float_dtype
from jaxdet.types import Targets

_LARGEST_AREA = 1e8  # square pixels; torchvision's constant, from which it subtracts areas
_NO_MATCH = 1e-5  # torchvision's bound for a difference that counts as a match


def assign_targets(
    anchors: Array,
    anchors_valid: Array,
    targets: Targets,
    *,
    counts: Sequence[int],
    center_sampling_radius: float = 1.5,
    ignore_thresh: float | None = 0.5,
) -> AnchorTargets:
    """Assigns targets to the anchors of an image, as torchvision does (``FCOS.compute_loss``).

    An anchor matches a ground-truth box if its centre lies inside of the box and less than ``center_sampling_radius``
    times its size from the box's centre in x and y, and if the largest distance from its centre to a side of the box
    lies between 4 and 8 times its size. The first level has no lower bound, the last no upper bound. If several boxes
    match, the smallest is taken.

    Two quirks of torchvision are kept. The smallest box is the maximum of 1e8 minus the area, which float32 rounds to
    multiples of 8, so that almost equal areas are equal, and the first box is taken. Boxes of more than 1e8 square
    pixels match nothing.

    Args:
        anchors: ``[N, 4]`` xyxy, squares. Invalid slots may contain any values.
        anchors_valid: ``[N]`` bool.
        targets: of the image, with boxes ``[G, 4]``. If none is valid, all valid anchors are negative.
        counts: number of anchors per level, with the sum N.
        center_sampling_radius, ignore_thresh: see `jaxdet.models.FCOSConfig`.
    """
    dtype = float_dtype(anchors, targets.boxes)
    boxes = known_boxes(targets.boxes, targets.valid).astype(dtype)
    anchors = known_boxes(anchors, anchors_valid).astype(dtype)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2  # [N, 2]
    sizes = anchors[:, 2] - anchors[:, 0]  # [N]
    box_centres = (boxes[:, :2] + boxes[:, 2:]) / 2  # [G, 2]
    apart = jnp.abs(centres[:, None] - box_centres[None]).max(axis=2)  # [N, G]
    central = apart < center_sampling_radius * sizes[:, None]
    distances = jnp.concatenate(
        [centres[:, None] - boxes[None, :, :2], boxes[None, :, 2:] - centres[:, None]], axis=2
    )  # [N, G, 4]
    inside = distances.min(axis=2) > 0
    levels = np.repeat(np.arange(len(counts)), counts)  # [N]
    lower = jnp.where(levels == 0, 0, 4 * sizes)[:, None]
    upper = jnp.where(levels == len(counts) - 1, jnp.inf, 8 * sizes)[:, None]
    farthest = distances.max(axis=2)
    in_range = (farthest > lower) & (farthest < upper)
    matches = central & inside & in_range & targets.valid[None] & anchors_valid[:, None]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    preference = jnp.where(matches, _LARGEST_AREA - area[None], 0)  # [N, G]
    index = jnp.argmax(preference, axis=1)
    positive = preference.max(axis=1) >= _NO_MATCH
    negative = ~positive & anchors_valid & outside_ignored(anchors, targets, ignore_thresh)
    labels = jnp.where(positive, targets.labels[index], 0)
    return AnchorTargets(labels, boxes[index], positive, negative)

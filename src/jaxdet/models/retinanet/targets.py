"""Target assignment of RetinaNet.

Axes: N anchors of an image (all levels), G ground-truth boxes. The functions take one image; callers vmap them.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxdet.heads.target_assignment import AnchorTargets, known_boxes, match_targets
from jaxdet.ops.matcher import Matcher
from jaxdet.types import Targets


def assign_targets(
    anchors: Array,
    anchors_valid: Array,
    targets: Targets,
    *,
    fg_iou_thresh: float = 0.5,
    bg_iou_thresh: float = 0.4,
    ignore_thresh: float | None = 0.5,
) -> AnchorTargets:
    """Assigns targets to the anchors of an image, as torchvision does, including low-quality matches.

    Args:
        anchors: ``[N, 4]`` xyxy. Invalid slots may contain any values.
        anchors_valid: ``[N]`` bool.
        targets: of the image, with boxes ``[G, 4]``. If none is valid, all valid anchors are negative.
        fg_iou_thresh, bg_iou_thresh, ignore_thresh: see `jaxdet.models.RetinaNetConfig`.
    """
    matcher = Matcher(fg_iou_thresh, bg_iou_thresh, allow_low_quality_matches=True)
    matches = match_targets(matcher, anchors, anchors_valid, targets, ignore_thresh)
    boxes = known_boxes(targets.boxes, targets.valid)
    labels = jnp.where(matches.positive, targets.labels[matches.index], 0)
    return AnchorTargets(labels, boxes[matches.index], matches.positive, matches.negative)

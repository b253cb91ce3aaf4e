"""Target assignment of RetinaNet.

Axes: N anchors of an image (all levels), G ground truths. Everything here is for one image: callers vmap it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxdet.heads.target_assignment import known_boxes, match_targets
from jaxdet.ops.matcher import Matcher
from jaxdet.types import Targets


class AnchorTargets(NamedTuple):
    """What every anchor of an image is trained to predict."""

    labels: Array  # [N] int32, of the matched ground truth; 0 where there is none
    boxes: Array  # [N, 4] xyxy, of use where positive
    positive: Array  # [N] bool, foreground
    negative: Array  # [N] bool, background; an anchor that is neither has no loss


def assign_targets(
    anchors: Array,
    anchors_valid: Array,
    targets: Targets,
    *,
    fg_iou_thresh: float = 0.5,
    bg_iou_thresh: float = 0.4,
    ignore_thresh: float | None = 0.5,
) -> AnchorTargets:
    """torchvision's assignment, low-quality matches included.

    Args:
        anchors: ``[N, 4]`` xyxy; slots that are not valid may hold anything.
        anchors_valid: ``[N]`` bool.
        targets: of the image: boxes ``[G, 4]``. Without a valid one every valid anchor is background.
        fg_iou_thresh: from this IoU on an anchor is foreground.
        bg_iou_thresh: below this IoU it is background.
        ignore_thresh: an anchor of which this share lies in an ignored region is not background; None: all are.
    """
    matcher = Matcher(fg_iou_thresh, bg_iou_thresh, allow_low_quality_matches=True)
    matches = match_targets(matcher, anchors, anchors_valid, targets, ignore_thresh)
    boxes = known_boxes(targets.boxes, targets.valid)
    labels = jnp.where(matches.positive, targets.labels[matches.index], 0)
    return AnchorTargets(labels, boxes[matches.index], matches.positive, matches.negative)

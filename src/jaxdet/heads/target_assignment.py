"""Target assignment, shared by all detectors that match anchors or proposals to ground truths by IoU.

Axes: N anchors or proposals (candidates), G ground truths. Everything here is for one image: callers vmap it.
"""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
from jax import Array

from jaxdet.ops.boxes import box_coverage, box_iou
from jaxdet.ops.matcher import Matcher, Matches
from jaxdet.types import Targets


def known_boxes(boxes: Array, valid: Array) -> Array:
    """``boxes [..., 4]`` with a point in place of those that are not ``valid [...]``, as padding may hold NaN."""
    return jnp.where(valid[..., None], boxes, jnp.ones((), boxes.dtype))


def match_targets(
    matcher: Matcher, candidates: Array, candidates_valid: Array, targets: Targets, ignore_thresh: float | None
) -> Matches:
    """Which ground truth each candidate is matched to, and which candidates are background.

    Args:
        candidates: ``[N, 4]`` xyxy; slots that are not valid may hold anything.
        candidates_valid: ``[N]`` bool; the other slots are neither matched nor background.
        targets: of the image: boxes ``[G, 4]``. Without a valid one every candidate is background.
        ignore_thresh: a candidate of which this share lies in an ignored region is not background; None: all are.
    """
    boxes = known_boxes(targets.boxes, targets.valid)
    matches = matcher(box_iou(boxes, candidates), targets.valid, candidates_valid)
    return replace(matches, negative=matches.negative & _outside(candidates, targets, ignore_thresh))


def _outside(candidates: Array, targets: Targets, thresh: float | None) -> Array:
    """``[N]`` bool: which candidates may be background, as no ignored region holds ``thresh`` of them."""
    if targets.ignored is None or thresh is None:
        return jnp.ones(candidates.shape[0], bool)
    regions = known_boxes(targets.boxes, targets.ignored)
    covered = (box_coverage(candidates, regions) >= thresh) & targets.ignored[None, :]  # [N, G]
    return ~jnp.any(covered, axis=1)

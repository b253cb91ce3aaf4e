"""Target assignment, as far as detectors share it: assigned targets, matching by IoU, and ignored regions.

Axes: N anchors or proposals (candidates), G ground-truth boxes. The functions take one image; callers vmap them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxdet.ops.boxes import box_coverage, box_iou
from jaxdet.ops.matcher import Matcher, Matches
from jaxdet.types import Targets


class AnchorTargets(NamedTuple):
    """The targets of all anchors of an image. Anchors that are neither positive nor negative are ignored."""

    labels: Array  # [N] int32, of the matched ground-truth box; 0 if not positive
    boxes: Array  # [N, 4] xyxy, the matched ground-truth box; meaningful where positive
    positive: Array  # [N] bool
    negative: Array  # [N] bool, background


def known_boxes(boxes: Array, valid: Array) -> Array:
    """``boxes [..., 4]`` with those that are not ``valid [...]`` replaced by a point, as padding may contain NaN."""
    return jnp.where(valid[..., None], boxes, jnp.ones((), boxes.dtype))


def match_targets(
    matcher: Matcher, candidates: Array, candidates_valid: Array, targets: Targets, ignore_thresh: float | None
) -> Matches:
    """Matches candidates to ground-truth boxes, and ignores negative candidates in ignored regions.

    Args:
        candidates: ``[N, 4]`` xyxy. Invalid slots may contain any values.
        candidates_valid: ``[N]`` bool; invalid candidates are neither positive nor negative.
        targets: of the image, with boxes ``[G, 4]``. If none is valid, all valid candidates are negative.
        ignore_thresh: a negative candidate is ignored if at least this fraction of its area lies in an ignored region;
            None: never.
    """
    boxes = known_boxes(targets.boxes, targets.valid)
    matches = matcher(box_iou(boxes, candidates), targets.valid, candidates_valid)
    return replace(matches, negative=matches.negative & outside_ignored(candidates, targets, ignore_thresh))


def outside_ignored(candidates: Array, targets: Targets, thresh: float | None) -> Array:
    """Whether less than the fraction ``thresh`` of each candidate lies in any ignored region, ``[N]`` bool."""
    if targets.ignored is None or thresh is None:
        return jnp.ones(candidates.shape[0], bool)
    regions = known_boxes(targets.boxes, targets.ignored)
    covered = (box_coverage(candidates, regions) >= thresh) & targets.ignored[None, :]  # [N, G]
    return ~jnp.any(covered, axis=1)

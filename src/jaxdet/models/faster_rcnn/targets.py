"""Target assignment and sampling for anchors and proposals.

Axes: N anchors of an image, R proposals, S samples, G ground-truth boxes. All functions take one image; callers vmap
them.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxdet.heads import BoxConfig, RPNConfig
from jaxdet.heads.target_assignment import known_boxes, match_targets
from jaxdet.ops.box_coder import BoxCoder
from jaxdet.ops.matcher import Matcher
from jaxdet.ops.sampling import sample_balanced
from jaxdet.types import Targets


class AnchorTargets(NamedTuple):
    """The sampled anchors of an image."""

    indices: Array  # [S] int32, into the image's anchors
    positive: Array  # [S] bool
    deltas: Array  # [S, 4] regression targets, meaningful where positive
    valid: Array  # [S] bool, False: an unused slot


class ProposalTargets(NamedTuple):
    """The sampled proposals of an image."""

    boxes: Array  # [S, 4] xyxy, no gradient
    labels: Array  # [S] int32, 0 the background
    deltas: Array  # [S, 4] regression targets, meaningful where the label is not 0
    valid: Array  # [S] bool, False: an unused slot


def sample_anchors(
    key: Array, anchors: Array, anchors_valid: Array, targets: Targets, config: RPNConfig
) -> AnchorTargets:
    """Assigns targets to the anchors ``[N, 4]`` and samples them (torchvision's ``assign_targets_to_anchors``)."""
    boxes = known_boxes(targets.boxes, targets.valid)
    matcher = Matcher(config.fg_iou_thresh, config.bg_iou_thresh, allow_low_quality_matches=True)
    matches = match_targets(matcher, anchors, anchors_valid, targets, config.ignore_thresh)
    indices, positive, valid = sample_balanced(
        key, matches.positive, matches.negative, config.batch_size_per_image, config.positive_fraction
    )
    deltas = BoxCoder().encode(boxes[matches.index[indices]], anchors[indices])
    return AnchorTargets(indices, positive, deltas, valid)


def sample_proposals(
    key: Array, proposals: Array, proposals_valid: Array, targets: Targets, config: BoxConfig
) -> ProposalTargets:
    """Assigns targets to the proposals ``[R, 4]`` and the ground-truth boxes, and samples them.

    Equivalent to torchvision's ``select_training_samples``.
    """
    boxes = known_boxes(targets.boxes, targets.valid)
    candidates = jnp.concatenate([known_boxes(proposals, proposals_valid), boxes])  # [R + G, 4]
    candidates = jax.lax.stop_gradient(candidates)
    valid_candidates = jnp.concatenate([proposals_valid, targets.valid])
    matcher = Matcher(config.fg_iou_thresh, config.bg_iou_thresh)
    matches = match_targets(matcher, candidates, valid_candidates, targets, config.ignore_thresh)
    indices, positive, valid = sample_balanced(
        key, matches.positive, matches.negative, config.batch_size_per_image, config.positive_fraction
    )
    truth = matches.index[indices]
    chosen = candidates[indices]
    deltas = BoxCoder(config.reg_weights).encode(boxes[truth], chosen)
    return ProposalTargets(chosen, jnp.where(positive, targets.labels[truth], 0), deltas, valid)

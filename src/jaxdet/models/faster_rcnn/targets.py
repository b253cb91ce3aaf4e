"""Target assignment and sampling for anchors and proposals.

Axes: B images, N anchors of an image, R proposals, S samples, G ground truths. Everything here is for one image:
callers vmap it.
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
    """The sampled anchors of an image; slots that are not valid count for nothing."""

    indices: Array  # [S] int32, into the image's anchors
    positive: Array  # [S] bool
    deltas: Array  # [S, 4] regression targets, of use where positive
    valid: Array  # [S] bool


class ProposalTargets(NamedTuple):
    """The sampled proposals of an image."""

    boxes: Array  # [S, 4] xyxy, no gradient
    labels: Array  # [S] int32, 0 the background
    deltas: Array  # [S, 4] regression targets, of use where the label is not 0
    valid: Array  # [S] bool


def sample_anchors(
    key: Array, anchors: Array, anchors_valid: Array, targets: Targets, config: RPNConfig
) -> AnchorTargets:
    """torchvision's ``assign_targets_to_anchors`` and sampler for anchors ``[N, 4]`` and ``G`` ground truths."""
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
    """torchvision's ``select_training_samples``: the ground truths join the proposals ``[R, 4]``, then a draw."""
    boxes = known_boxes(targets.boxes, targets.valid)
    candidates = jnp.concatenate([known_boxes(proposals, proposals_valid), boxes])  # [R + G, 4]
    candidates = jax.lax.stop_gradient(candidates)
    known = jnp.concatenate([proposals_valid, targets.valid])
    matcher = Matcher(config.fg_iou_thresh, config.bg_iou_thresh)
    matches = match_targets(matcher, candidates, known, targets, config.ignore_thresh)
    indices, positive, valid = sample_balanced(
        key, matches.positive, matches.negative, config.batch_size_per_image, config.positive_fraction
    )
    truth = matches.index[indices]
    chosen = candidates[indices]
    deltas = BoxCoder(config.reg_weights).encode(boxes[truth], chosen)
    return ProposalTargets(chosen, jnp.where(positive, targets.labels[truth], 0), deltas, valid)

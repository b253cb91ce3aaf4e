"""The structures that travel between the stages of a detector.

Axes: B images, H W C, L levels, A anchors, R proposals, K classes, D detections, G ground truths.
Boxes are ``(x1, y1, x2, y2)`` in pixels of the model's input; label 0 is the background. Whatever has a
variable count is padded to a fixed one with a boolean ``valid`` beside it: a padded slot may hold anything,
NaN included, and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
from jax import Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Images:
    """A batch on one canvas: each image in the top left corner, zero (after normalisation) beyond its true size."""

    pixels: Array  # [B, H, W, 3] normalised float
    sizes: Array  # [B, 2] int32, true (height, width)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Targets:
    """Ground-truth boxes of a batch; an image without boxes has no valid slot.

    A slot that is ``ignored`` (and not ``valid``) holds a region, such as COCO's crowds, that is neither object nor
    background: nothing that lies in it is trained on as background.
    """

    boxes: Array  # [B, G, 4]
    labels: Array  # [B, G] int32, 1..K-1
    valid: Array  # [B, G] bool
    ignored: Array | None = None  # [B, G] bool; None: nothing is


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Proposals:
    """Class-agnostic boxes from the region proposal network, by decreasing score."""

    boxes: Array  # [B, R, 4]
    scores: Array  # [B, R] objectness after the sigmoid
    valid: Array  # [B, R] bool


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Detections:
    """Final boxes of a batch, by decreasing score."""

    boxes: Array  # [B, D, 4]
    scores: Array  # [B, D]
    labels: Array  # [B, D] int32
    valid: Array  # [B, D] bool

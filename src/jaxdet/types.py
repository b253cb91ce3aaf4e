"""The data structures that are passed between the stages of a detector.

Axes: B images, H height, W width, C channels, L levels, A anchors, R proposals, K classes, D detections, G ground
truths. Boxes are ``(x1, y1, x2, y2)`` in pixels of the model's input; label 0 is the background. A variable number of
boxes is padded to a fixed one, with a boolean mask ``valid``. Padded slots may have any values, including NaN, and have
no effect.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
from jax import Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Images:
    """A batch of images on one canvas, each in the top left corner and padded with zeros after normalisation."""

    pixels: Array  # [B, H, W, 3] normalised float
    sizes: Array  # [B, 2] int32, (height, width) without padding


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Targets:
    """Ground-truth boxes of a batch. An image without boxes has no valid slot.

    A slot that is ``ignored`` (and not ``valid``) is a region that is neither object nor background, such as one of
    COCO's crowds: nothing inside it is trained as background.
    """

    boxes: Array  # [B, G, 4]
    labels: Array  # [B, G] int32, 1..K-1
    valid: Array  # [B, G] bool
    ignored: Array | None = None  # [B, G] bool; None: there are no ignored regions


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

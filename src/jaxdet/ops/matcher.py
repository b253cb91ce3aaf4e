"""Matching of predictions (anchors or proposals) to ground-truth boxes by IoU."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Matches:
    """The matches of N predictions. Those that are neither positive nor negative are ignored in the loss."""

    index: Array  # [N] int32, the ground truth with the highest IoU; 0 without ground truth
    positive: Array  # [N] bool
    negative: Array  # [N] bool, background


@dataclass(frozen=True)
class Matcher:
    """Assigns ground truths to predictions by IoU, as ``torchvision.models.detection._utils.Matcher``.

    Attributes:
      high_threshold: predictions with a highest IoU of at least this are positive.
      low_threshold: predictions with a highest IoU below this are negative; those in between are ignored.
      allow_low_quality_matches: predictions that have the highest IoU with some ground truth (ties included) are also
        positive. As in torchvision, they are assigned to the ground truth of their own highest IoU, and a ground truth
        without any overlap makes all predictions with an IoU of 0 positive.
    """

    high_threshold: float
    low_threshold: float
    allow_low_quality_matches: bool = False

    def __post_init__(self) -> None:
        if self.low_threshold > self.high_threshold:
            raise ValueError(
                f"Matcher: low_threshold {self.low_threshold} is above high_threshold {self.high_threshold}; swap them."
            )

    def __call__(self, iou: Array, valid_gt: Array, valid_pred: Array | None = None) -> Matches:
        """Matches N predictions to G ground truths.

        Args:
          iou: ``[G, N]``; rows and columns of invalid slots are ignored.
          valid_gt: ``[G]`` bool. If none is valid, all predictions are negative.
          valid_pred: ``[N]`` bool; invalid predictions are neither positive nor negative.

        Returns:
          ``Matches``.
        """
        count = iou.shape[1]
        if valid_pred is None:
            valid_pred = jnp.ones(count, bool)
        if iou.shape[0] == 0:
            return Matches(jnp.zeros(count, jnp.int32), jnp.zeros(count, bool), valid_pred)
        usable = valid_gt[:, None] & valid_pred[None, :]  # [G, N]
        quality = jnp.where(usable, iou, -1)  # below every IoU
        best = jnp.max(quality, axis=0)  # [N]
        index = jnp.argmax(quality, axis=0).astype(jnp.int32)
        positive = best >= self.high_threshold
        negative = best < self.low_threshold
        if self.allow_low_quality_matches:
            highest = jnp.max(quality, axis=1, keepdims=True)  # [G, 1]
            low_quality = jnp.any((quality == highest) & usable, axis=0)  # [N]
            positive, negative = positive | low_quality, negative & ~low_quality
        matched = jnp.any(usable, axis=0)  # thresholds below zero must not match padding
        return Matches(jnp.where(matched, index, 0), positive & matched, (negative | ~matched) & valid_pred)

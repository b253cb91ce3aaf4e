"""Which ground truth, if any, each anchor or proposal answers for."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Matches:
    """One row a prediction (N of them); neither positive nor negative means: leave it out of the loss."""

    index: Array  # [N] int32, the best ground truth; 0 where there is none
    positive: Array  # [N] bool
    negative: Array  # [N] bool, background


@dataclass(frozen=True)
class Matcher:
    """Assign ground truths to predictions by IoU, as ``torchvision.models.detection._utils.Matcher`` does.

    Attributes:
      high_threshold: a best IoU at or above it is a match.
      low_threshold: a best IoU below it is background; between the two a prediction is neither.
      allow_low_quality_matches: also match, whatever the IoU, every prediction that ties for the highest IoU some
        ground truth reaches. It goes to its own best ground truth, which need not be that one. A ground truth
        that overlaps nothing has the highest IoU 0 and makes everything at 0 positive, as in torchvision.
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
        """Match N predictions to G ground truths.

        Args:
          iou: ``[G, N]``; rows and columns of padded slots may hold anything.
          valid_gt: ``[G]`` bool. With none valid every prediction is negative.
          valid_pred: ``[N]`` bool; the others are neither positive nor negative, and no ground truth's best.

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
            rescued = jnp.any((quality == highest) & usable, axis=0)  # [N]
            positive, negative = positive | rescued, negative & ~rescued
        matched = jnp.any(usable, axis=0)  # a threshold below zero must not match padding
        return Matches(jnp.where(matched, index, 0), positive & matched, (negative | ~matched) & valid_pred)

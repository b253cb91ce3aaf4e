"""Encoding of boxes as the distances of their sides from the centre of a reference box (FCOS, Tian et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array

from jaxdet.ops.boxes import float_dtype
from jaxdet.ops.exact import rounded


@dataclass(frozen=True)
class BoxLinearCoder:
    """Encodes boxes as ``(left, top, right, bottom)`` distances from the centre of reference boxes, and decodes them.

    The operations have the order of ``torchvision.models.detection._utils.BoxLinearCoder``.

    Attributes:
      normalize_by_size: divide distances by the width or height of the reference box.
    """

    normalize_by_size: bool = True

    def encode(self, reference_boxes: Array, proposals: Array) -> Array:
        """The distances from the centres of ``reference_boxes`` to the sides of ``proposals``.

        torchvision's argument order: here, unlike in `BoxCoder.encode`, ``reference_boxes`` are the anchors.

        Args:
          reference_boxes: ``[..., 4]`` xyxy pixels, the anchors.
          proposals: ``[..., 4]`` xyxy pixels, the boxes to encode (ground truth).

        Returns:
          ``[..., 4]``, negative where the centre lies outside of the box on that side.
        """
        dtype = float_dtype(reference_boxes, proposals)
        reference_boxes, proposals = reference_boxes.astype(dtype), proposals.astype(dtype)
        centre_x, centre_y, sizes = _centres_and_sizes(reference_boxes)
        distances = jnp.stack(
            [
                centre_x - proposals[..., 0],
                centre_y - proposals[..., 1],
                proposals[..., 2] - centre_x,
                proposals[..., 3] - centre_y,
            ],
            axis=-1,
        )  # [..., 4]
        return distances / sizes if self.normalize_by_size else distances

    def decode(self, rel_codes: Array, boxes: Array) -> Array:
        """The boxes at these distances from the centres of reference boxes.

        Args:
          rel_codes: ``[..., 4]`` distances.
          boxes: ``[..., 4]`` xyxy pixels, the reference boxes (anchors).

        Returns:
          ``[..., 4]`` xyxy pixels, not clipped, with the dtype of ``rel_codes`` (at least float32).
        """
        rel_codes = rel_codes.astype(float_dtype(rel_codes))
        centre_x, centre_y, sizes = _centres_and_sizes(boxes.astype(rel_codes.dtype))
        if self.normalize_by_size:
            rel_codes = rounded(rel_codes * sizes)
        return jnp.stack(
            [
                centre_x - rel_codes[..., 0],
                centre_y - rel_codes[..., 1],
                centre_x + rel_codes[..., 2],
                centre_y + rel_codes[..., 3],
            ],
            axis=-1,
        )  # [..., 4]


def _centres_and_sizes(boxes: Array) -> tuple[Array, Array, Array]:
    """The centres of xyxy boxes ``[..., 4]``, x and y ``[...]``, and (width, height, width, height) ``[..., 4]``."""
    centre_x = 0.5 * (boxes[..., 0] + boxes[..., 2])
    centre_y = 0.5 * (boxes[..., 1] + boxes[..., 3])
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    return centre_x, centre_y, jnp.stack([width, height, width, height], axis=-1)

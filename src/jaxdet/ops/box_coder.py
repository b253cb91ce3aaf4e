"""Encoding of boxes relative to reference boxes, as in Faster R-CNN (Ren et al. 2015, section 3.1.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array

from jaxdet.ops.boxes import float_dtype
from jaxdet.ops.exact import quotient, rounded


@dataclass(frozen=True)
class BoxCoder:
    """Encodes boxes as ``(dx, dy, dw, dh)`` relative to reference boxes, and decodes them.

    The operations have the order of ``torchvision.models.detection._utils.BoxCoder``.

    Attributes:
      weights: factors of (dx, dy, dw, dh). torchvision uses (1, 1, 1, 1) in the RPN, (10, 10, 5, 5) in the box head.
      bbox_xform_clip: upper bound of dw and dh before the exponential.
    """

    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    bbox_xform_clip: float = math.log(1000.0 / 16)

    def encode(self, reference_boxes: Array, proposals: Array, *, valid: Array | None = None) -> Array:
        """The offsets from ``proposals`` to ``reference_boxes``.

        Args:
          reference_boxes: ``[..., 4]`` xyxy pixels, the regression targets (ground truth).
          proposals: ``[..., 4]`` xyxy pixels.
          valid: ``[...]`` bool; invalid slots encode to zeros.

        Returns:
          ``[..., 4]``. Without ``valid``, boxes without area give infinities or NaN in their slots.
        """
        dtype = float_dtype(reference_boxes, proposals)
        reference_boxes, proposals = reference_boxes.astype(dtype), proposals.astype(dtype)
        if valid is not None:
            unit = jnp.array([0, 0, 1, 1], dtype).reshape((1,) * (proposals.ndim - 1) + (4,))
            reference_boxes = jnp.where(valid[..., None], reference_boxes, unit)
            proposals = jnp.where(valid[..., None], proposals, unit)
        from_x, from_y, from_width, from_height = _centre_form(proposals)
        to_x, to_y, to_width, to_height = _centre_form(reference_boxes)
        weight_x, weight_y, weight_w, weight_h = self.weights
        return jnp.stack(
            [
                weight_x * (to_x - from_x) / from_width,
                weight_y * (to_y - from_y) / from_height,
                weight_w * jnp.log(to_width / from_width),
                weight_h * jnp.log(to_height / from_height),
            ],
            axis=-1,
        )  # [..., 4]

    def decode(self, rel_codes: Array, boxes: Array) -> Array:
        """Applies offsets to boxes.

        Args:
          rel_codes: ``[..., 4]`` or, with one offset per class, ``[..., K, 4]``.
          boxes: ``[..., 4]`` xyxy pixels; its leading axes are those of ``rel_codes``, with or without K.

        Returns:
          Boxes, xyxy in pixels, not clipped, with the shape and dtype (at least float32) of ``rel_codes``.
        """
        rel_codes = rel_codes.astype(float_dtype(rel_codes))
        if boxes.ndim == rel_codes.ndim - 1:
            boxes = boxes[..., None, :]
        if boxes.ndim != rel_codes.ndim:
            raise ValueError(
                f"decode: boxes {boxes.shape} and rel_codes {rel_codes.shape} must have the same leading axes, "
                "or rel_codes one more (the class) before its last."
            )
        x, y, width, height = _centre_form(boxes.astype(rel_codes.dtype))
        weight_x, weight_y, weight_w, weight_h = self.weights
        centre_x = rounded(quotient(rel_codes[..., 0], weight_x) * width) + x
        centre_y = rounded(quotient(rel_codes[..., 1], weight_y) * height) + y
        log_width = self._clipped(quotient(rel_codes[..., 2], weight_w))
        log_height = self._clipped(quotient(rel_codes[..., 3], weight_h))
        half_width = 0.5 * rounded(jnp.exp(log_width) * width)
        half_height = 0.5 * rounded(jnp.exp(log_height) * height)
        return jnp.stack(
            [centre_x - half_width, centre_y - half_height, centre_x + half_width, centre_y + half_height], axis=-1
        )  # [..., 4]

    def _clipped(self, log_side: Array) -> Array:
        """A minimum with the gradient of PyTorch's ``clamp``: 1 at the bound, where that of ``minimum`` is 0.5."""
        return jnp.where(log_side > self.bbox_xform_clip, self.bbox_xform_clip, log_side)


def _centre_form(boxes: Array) -> tuple[Array, Array, Array, Array]:
    """xyxy ``[..., 4]`` to centre x, centre y, width, height, each ``[...]``."""
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    return boxes[..., 0] + 0.5 * width, boxes[..., 1] + 0.5 * height, width, height

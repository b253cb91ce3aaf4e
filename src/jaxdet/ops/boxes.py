"""Axis-aligned boxes as ``(x1, y1, x2, y2)`` in pixels: area, IoU, clipping, flipping, scaling.

All functions take boxes of any leading shape and multiply in at least float32. Boxes are independent, so that NaN in
padded slots does not spread.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxdet.ops.box_formats import box_convert


def float_dtype(*arrays: Array) -> jnp.dtype:
    """The dtype to compute in: that of ``arrays``, and at least float32."""
    dtype: DTypeLike = jnp.float32
    for array in arrays:
        dtype = jnp.promote_types(dtype, array.dtype)
    return jnp.dtype(dtype)


def at_least_zero(x: Array) -> Array:
    """``maximum(x, 0)`` with the gradient of PyTorch's ``clamp(min=0)``: 1 at zero, where ``maximum`` has 0.5."""
    return jnp.where(x < 0, 0, x)


def box_area(boxes: Array, fmt: str = "xyxy") -> Array:
    """The areas ``[...]`` of ``boxes [..., 4]`` in square pixels; inverted boxes have area 0.

    ``fmt`` is ``"xyxy"``, ``"xywh"`` or ``"cxcywh"`` (see `box_convert`).

    `at_least_zero` also prevents the compiler from contracting the product into a fused multiply-add, so that IoUs are
    bit-equal to PyTorch's.
    """
    return at_least_zero(signed_area(_to_xyxy(boxes.astype(float_dtype(boxes)), fmt)))


def _to_xyxy(boxes: Array, fmt: str) -> Array:
    if fmt not in ("xyxy", "xywh", "cxcywh"):
        raise ValueError(
            f"box_area and box_iou take xyxy, xywh or cxcywh boxes, not {fmt!r} (rotated boxes are not supported)."
        )
    return box_convert(boxes, fmt, "xyxy")


def signed_area(boxes: Array) -> Array:
    """The areas ``[...]`` of xyxy ``boxes [..., 4]``, negative for inverted boxes as in torchvision."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersection_and_union(boxes1: Array, boxes2: Array, *, signed: bool = False) -> tuple[Array, Array]:
    """Intersection and union of every pair of ``[..., N, 4]`` and ``[..., M, 4]``: ``[..., N, M]`` each.

    ``signed``: inverted boxes contribute negative areas to the union, as in torchvision, instead of 0.
    """
    area = signed_area if signed else box_area
    dtype = float_dtype(boxes1, boxes2)
    first, second = boxes1.astype(dtype)[..., :, None, :], boxes2.astype(dtype)[..., None, :, :]

    def overlap(low: int, high: int) -> Array:  # one side at a time, as a last axis of two would be copied
        start = jnp.maximum(first[..., low], second[..., low])  # [..., N, M]
        end = jnp.minimum(first[..., high], second[..., high])
        return at_least_zero(end - start)

    # The outer call changes no value; it prevents the fused multiply-add (see box_area).
    intersection = at_least_zero(overlap(0, 2) * overlap(1, 3))
    union = area(first) + area(second) - intersection
    return intersection, union


def box_iou(boxes1: Array, boxes2: Array, fmt: str = "xyxy") -> Array:
    """Intersection over union of every pair.

    Args:
      boxes1: ``[..., N, 4]``.
      boxes2: ``[..., M, 4]``.
      fmt: the format of both: ``"xyxy"``, ``"xywh"`` or ``"cxcywh"`` (see `box_convert`).

    Returns:
      ``[..., N, M]`` in [0, 1], bit-equal to ``torchvision.ops.box_iou`` on the CPU, except for pairs without area,
      which are 0 here and NaN there.
    """
    dtype = float_dtype(boxes1, boxes2)
    boxes1, boxes2 = (_to_xyxy(boxes.astype(dtype), fmt) for boxes in (boxes1, boxes2))
    intersection, union = intersection_and_union(boxes1, boxes2)
    has_area = union > 0
    return jnp.where(has_area, intersection / jnp.where(has_area, union, 1), 0)


def box_coverage(boxes: Array, regions: Array) -> Array:
    """The fraction of each box's area that lies in each region.

    Args:
      boxes: ``[..., N, 4]`` xyxy.
      regions: ``[..., M, 4]`` xyxy.

    Returns:
      ``[..., N, M]`` in [0, 1]; 0 for boxes without area.
    """
    intersection, _ = intersection_and_union(boxes, regions)
    area = box_area(boxes)[..., :, None]
    return jnp.where(area > 0, intersection / jnp.where(area > 0, area, 1), 0)


def clip_boxes(boxes: Array, size: ArrayLike | Sequence[ArrayLike]) -> Array:
    """Clips ``boxes [..., 4]`` to an image of ``size`` = (height, width): ``torchvision.ops.clip_boxes_to_image``.

    ``size`` is a pair, or an array ``[..., 2]`` that broadcasts against the leading axes of ``boxes``.
    """
    if isinstance(size, Sequence):
        size = jnp.stack([jnp.asarray(side) for side in size], axis=-1)
    size = jnp.asarray(size).astype(boxes.dtype)
    limits = jnp.stack([size[..., 1], size[..., 0]] * 2, axis=-1)  # [..., 4]
    limits = limits.reshape((1,) * (boxes.ndim - limits.ndim) + limits.shape)
    return jnp.where(boxes > limits, limits, at_least_zero(boxes))  # as of clamp, the gradient on the border is 1


clip_boxes_to_image = clip_boxes  # torchvision's name


def flip_boxes(boxes: Array, width: ArrayLike) -> Array:
    """Flips ``boxes [..., 4]`` horizontally in an image of ``width`` pixels (a scalar, or ``[...]``)."""
    width = jnp.asarray(width).astype(boxes.dtype)
    width = width.reshape((1,) * (boxes.ndim - 1 - width.ndim) + width.shape)
    x1, y1, x2, y2 = (boxes[..., i] for i in range(4))
    return jnp.stack([width - x2, y1, width - x1, y2], axis=-1)


def scale_boxes(boxes: Array, scale_yx: ArrayLike | Sequence[ArrayLike]) -> Array:
    """Scales ``boxes [..., 4]`` by ``scale_yx`` = (vertical, horizontal), a pair or an array ``[..., 2]``."""
    if isinstance(scale_yx, Sequence):
        scale_yx = jnp.stack([jnp.asarray(factor) for factor in scale_yx], axis=-1)
    scale = jnp.asarray(scale_yx).astype(boxes.dtype)
    factors = jnp.stack([scale[..., 1], scale[..., 0]] * 2, axis=-1)  # [..., 4]
    return boxes * factors.reshape((1,) * (boxes.ndim - factors.ndim) + factors.shape)


def large_enough(boxes: Array, min_size: float) -> Array:
    """Whether both sides of ``boxes [..., 4]`` are at least ``min_size`` pixels, ``[...]`` bool; False for NaN.

    The mask of ``torchvision.ops.remove_small_boxes``.
    """
    return (boxes[..., 2] - boxes[..., 0] >= min_size) & (boxes[..., 3] - boxes[..., 1] >= min_size)

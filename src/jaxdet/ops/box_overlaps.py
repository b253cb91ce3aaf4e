"""Generalised, distance and complete IoU of every pair of boxes, numerically equivalent to torchvision's.

Axes: N and M boxes, xyxy in pixels. Pairs are independent, so that NaN in padded slots does not spread.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array

from jaxdet.ops.boxes import at_least_zero, box_iou, float_dtype, intersection_and_union


def generalized_box_iou(boxes1: Array, boxes2: Array) -> Array:
    """IoU minus the fraction of the enclosing box that neither box covers (Rezatofighi et al. 2019).

    Args:
      boxes1: ``[..., N, 4]`` xyxy.
      boxes2: ``[..., M, 4]`` xyxy.

    Returns:
      ``[..., N, M]``, at least float32. Terms with a divisor of zero are 0: two points, or two boxes on one line, have
      a generalised IoU of 0 (NaN in torchvision).
    """
    first, second = _pairs(boxes1, boxes2)
    intersection, union = intersection_and_union(boxes1, boxes2, signed=True)
    width, height = _enclosing_sides(first, second)
    enclosing = width * height
    return _quotient(intersection, union) - _quotient(enclosing - union, enclosing)


def distance_box_iou(boxes1: Array, boxes2: Array, eps: float = 1e-7) -> Array:
    """IoU - squared distance of the centres / squared diagonal of the enclosing box (Zheng et al. 2020).

    Args:
      boxes1: ``[..., N, 4]`` xyxy.
      boxes2: ``[..., M, 4]`` xyxy.
      eps: added to the squared diagonal.

    Returns:
      ``[..., N, M]``, at least float32. The IoU is `box_iou`'s: 0 for pairs without area (NaN in torchvision).
    """
    first, second = _pairs(boxes1, boxes2)
    return box_iou(boxes1, boxes2) - _distance(first, second, eps)


def complete_box_iou(boxes1: Array, boxes2: Array, eps: float = 1e-7) -> Array:
    """Distance IoU minus a term for the difference of aspect ratios (Zheng et al. 2020).

    As in torchvision, the weight of the term has no gradient.

    Args:
      boxes1: ``[..., N, 4]`` xyxy.
      boxes2: ``[..., M, 4]`` xyxy.
      eps: added to the squared diagonal, and to the divisor of the weight.

    Returns:
      ``[..., N, M]``, at least float32. The aspect ratio of a box with neither width nor height gives NaN in
      torchvision; here its angle is 0. A box without height has the angle of an infinite ratio, without gradient.
    """
    first, second = _pairs(boxes1, boxes2)
    iou = box_iou(boxes1, boxes2)
    return iou - _distance(first, second, eps) - aspect_penalty(first, second, iou, eps)


def aspect_penalty(first: Array, second: Array, iou: Array, eps: float) -> Array:
    """``alpha * v`` of the complete IoU (Zheng et al. 2020, equations 8 to 11). Boxes ``[..., 4]`` broadcast."""
    difference = _aspect_angle(first) - _aspect_angle(second)
    v = (4 / math.pi**2) * difference**2
    # For identical boxes v and 1 - iou are zero, and eps may be zero, too.
    return jax.lax.stop_gradient(_quotient(v, 1 - iou + v + eps)) * v


def _aspect_angle(boxes: Array) -> Array:
    """``atan(width / height)``; +-pi/2 without height, 0 without both."""
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    flat = height == 0
    angle = jnp.arctan(width / jnp.where(flat, 1, height))
    return jnp.where(flat, jnp.sign(jax.lax.stop_gradient(width)) * (math.pi / 2), angle)


def _distance(first: Array, second: Array, eps: float) -> Array:
    """Squared distance of the centres, divided by the squared diagonal of the enclosing box."""
    width, height = _enclosing_sides(first, second)
    x, y = (_centre(first, low) - _centre(second, low) for low in (0, 1))
    return _quotient(x**2 + y**2, width**2 + height**2 + eps)


def _centre(boxes: Array, low: int) -> Array:
    return (boxes[..., low] + boxes[..., low + 2]) / 2


def _enclosing_sides(first: Array, second: Array) -> tuple[Array, Array]:
    def side(low: int) -> Array:
        end = jnp.maximum(first[..., low + 2], second[..., low + 2])
        return at_least_zero(end - jnp.minimum(first[..., low], second[..., low]))

    return side(0), side(1)


def _pairs(boxes1: Array, boxes2: Array) -> tuple[Array, Array]:
    dtype = float_dtype(boxes1, boxes2)
    return boxes1.astype(dtype)[..., :, None, :], boxes2.astype(dtype)[..., None, :, :]


def _quotient(dividend: Array, divisor: Array) -> Array:
    """``dividend / divisor``; 0 if the divisor is 0."""
    zero = divisor == 0
    return jnp.where(zero, 0, dividend / jnp.where(zero, 1, divisor))

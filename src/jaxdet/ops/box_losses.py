"""IoU losses for box regression, numerically equivalent to torchvision's.

Both sets of boxes are xyxy ``[..., 4]`` and paired slot by slot. Losses are at least float32.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxdet.ops.box_overlaps import aspect_penalty
from jaxdet.ops.boxes import float_dtype, signed_area
from jaxdet.ops.reduction import expand_valid, reduce_loss

_EPS = 1e-7


def generalized_box_iou_loss(
    boxes1: Array, boxes2: Array, reduction: str = "none", eps: float = _EPS, *, valid: Array | None = None
) -> Array:
    """1 minus the generalised IoU (Rezatofighi et al. 2019).

    Args:
      boxes1: ``[..., 4]`` xyxy.
      boxes2: ``[..., 4]`` xyxy.
      reduction: ``"none"``, ``"sum"`` or ``"mean"``. The mean is over the valid slots; without any it is 0.
      eps: added to the union and to the enclosing area. As in torchvision, the loss of identical boxes is therefore
        slightly above 0, and that of two points exactly 1.
      valid: ``[...]`` bool. Invalid slots have no loss and no gradient.

    Returns:
      ``[...]``, or a scalar.
    """
    boxes1, boxes2, valid = _prepare(boxes1, boxes2, valid)
    intersection, union = _intersection_and_union(boxes1, boxes2)
    width, height = _enclosing_sides(boxes1, boxes2)
    enclosing = width * height
    loss = 1 - intersection / (union + eps) + (enclosing - union) / (enclosing + eps)
    return reduce_loss(loss, valid, reduction)


def distance_box_iou_loss(
    boxes1: Array, boxes2: Array, reduction: str = "none", eps: float = _EPS, *, valid: Array | None = None
) -> Array:
    """1 - IoU + squared distance of the centres / squared diagonal of the enclosing box (Zheng et al. 2020).

    ``eps`` is added to the union and to the squared diagonal. The other arguments and the result are those of
    `generalized_box_iou_loss`.
    """
    boxes1, boxes2, valid = _prepare(boxes1, boxes2, valid)
    loss, _ = _distance_loss_and_iou(boxes1, boxes2, eps)
    return reduce_loss(loss, valid, reduction)


def complete_box_iou_loss(
    boxes1: Array, boxes2: Array, reduction: str = "none", eps: float = _EPS, *, valid: Array | None = None
) -> Array:
    """The distance IoU loss plus a term for the difference of aspect ratios; the weight of the term has no gradient.

    As in torchvision, ``eps`` only affects that weight; the distance loss always uses 1e-7. A box of height 0 has no
    gradient through its aspect ratio, and a box without area has the angle 0; torchvision's are NaN.
    The other arguments and the result are those of `generalized_box_iou_loss`.
    """
    boxes1, boxes2, valid = _prepare(boxes1, boxes2, valid)
    loss, iou = _distance_loss_and_iou(boxes1, boxes2, _EPS)
    return reduce_loss(loss + aspect_penalty(boxes2, boxes1, iou, eps), valid, reduction)


def _prepare(boxes1: Array, boxes2: Array, valid: Array | None) -> tuple[Array, Array, Array]:
    """Both in at least float32. Invalid slots are replaced by unit boxes, which have a finite loss and gradient."""
    if boxes1.shape != boxes2.shape or boxes1.ndim == 0 or boxes1.shape[-1] != 4:
        raise ValueError(f"box losses need two arrays of one shape [..., 4], got {boxes1.shape} and {boxes2.shape}.")
    dtype = float_dtype(boxes1, boxes2)
    boxes1, boxes2 = boxes1.astype(dtype), boxes2.astype(dtype)
    mask = expand_valid(valid, boxes1.shape[:-1])
    if valid is not None:
        unit = jnp.broadcast_to(jnp.array([0, 0, 1, 1], dtype), boxes1.shape)
        boxes1, boxes2 = (jnp.where(mask[..., None], boxes, unit) for boxes in (boxes1, boxes2))
    return boxes1, boxes2, mask


def _intersection_and_union(boxes1: Array, boxes2: Array) -> tuple[Array, Array]:
    """Areas ``[...]``. Unlike in `box_iou`, boxes that only touch have no gradient."""
    width, height = (
        jnp.minimum(boxes1[..., low + 2], boxes2[..., low + 2]) - jnp.maximum(boxes1[..., low], boxes2[..., low])
        for low in (0, 1)
    )
    intersection = jnp.where((width > 0) & (height > 0), width * height, 0)
    return intersection, signed_area(boxes1) + signed_area(boxes2) - intersection


def _enclosing_sides(boxes1: Array, boxes2: Array) -> tuple[Array, Array]:
    def side(low: int) -> Array:
        end = jnp.maximum(boxes1[..., low + 2], boxes2[..., low + 2])
        return end - jnp.minimum(boxes1[..., low], boxes2[..., low])

    return side(0), side(1)


def _distance_loss_and_iou(boxes1: Array, boxes2: Array, eps: float) -> tuple[Array, Array]:
    intersection, union = _intersection_and_union(boxes1, boxes2)
    iou = intersection / (union + eps)
    width, height = _enclosing_sides(boxes1, boxes2)
    x, y = ((boxes1[..., low + 2] + boxes1[..., low] - boxes2[..., low + 2] - boxes2[..., low]) / 2 for low in (0, 1))
    return 1 - iou + (x**2 + y**2) / (width**2 + height**2 + eps), iou


def smooth_l1(prediction: Array, target: Array, beta: float) -> Array:
    """PyTorch's ``smooth_l1_loss`` elementwise: quadratic below ``beta``, linear above; ``beta=0`` is L1."""
    difference = prediction - target
    error = difference * jnp.sign(difference)  # the gradient of abs at 0 is 1 in JAX and 0 in PyTorch
    if beta == 0:
        return error
    return jnp.where(error < beta, 0.5 * jnp.square(error) / beta, error - 0.5 * beta)

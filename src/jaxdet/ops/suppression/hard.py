"""Exact greedy non-maximum suppression with fixed shapes.

Boxes are xyxy in pixels. A box is suppressed if its IoU with a kept box of higher score is strictly greater than the
threshold, as in ``torchvision.ops.nms``. Ties in score are broken by the lower index.

Two algorithms compute the same result. ``nms`` and ``batched_nms`` build the N x N matrix S, in which S[i, j] means
that box i would suppress box j, and iterate ``keep <- valid & ~(keep @ S)``. In score order S is strictly upper
triangular, so that there is one fixed point, the greedy result. It is reached after at most as many iterations as the
longest chain of suppressions (about ten, in practice). ``greedy_nms`` selects one box per iteration without a matrix;
it is for many candidates and few outputs.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from jaxdet.ops.batching import any_in_batch
from jaxdet.ops.boxes import box_area, float_dtype, intersection_and_union, large_enough

_ITERATIONS_PER_CHECK = 2  # of the loop's predicate, which on a GPU waits for the host


class Kept(NamedTuple):
    """The kept boxes, by decreasing score if they have scores. Invalid slots have index 0."""

    indices: Array  # [M] int32
    valid: Array  # [M] bool


def remove_small_boxes(boxes: Array, min_size: float, *, valid: Array | None = None) -> Kept:
    """Keeps boxes with both sides at least ``min_size``, in their order: ``torchvision.ops.remove_small_boxes``.

    Args:
      boxes: ``[N, 4]`` xyxy. Boxes with NaN are not kept.
      min_size: in pixels.
      valid: ``[N]`` bool; invalid slots are not kept.

    Returns:
      ``Kept`` with N slots. `large_enough` returns the same as a mask, for any shape.
    """
    keep = large_enough(boxes, min_size)
    if valid is not None:
        keep &= valid
    indices = jnp.nonzero(keep, size=keep.shape[0], fill_value=0)[0].astype(jnp.int32)
    return Kept(indices, jnp.arange(keep.shape[0]) < keep.sum())


def nms(
    boxes: Array,
    scores: Array,
    iou_threshold: float,
    *,
    valid: Array | None = None,
    max_outputs: int | None = None,
) -> Kept:
    """Greedy NMS of one set of boxes.

    Args:
      boxes: ``[N, 4]`` xyxy.
      scores: ``[N]``.
      iou_threshold: in [0, 1]; a Python number.
      valid: ``[N]`` bool; invalid slots are ignored.
      max_outputs: M, the number of output slots; by default N.

    Returns:
      ``Kept`` with M slots. Use ``vmap`` for a batch, which shares one loop.
    """
    return batched_nms(boxes, scores, None, iou_threshold, valid=valid, max_outputs=max_outputs)


def batched_nms(
    boxes: Array,
    scores: Array,
    idxs: Array | None,
    iou_threshold: float,
    *,
    valid: Array | None = None,
    max_outputs: int | None = None,
) -> Kept:
    """Greedy NMS in which only boxes with equal ``idxs`` suppress each other.

    This function compares the classes. torchvision's function of this name offsets the boxes of each class, which
    rounds them, or loops over the classes, depending on the number of boxes.

    Args:
      boxes: ``[N, 4]`` xyxy.
      scores: ``[N]``.
      idxs: ``[N]`` integers, classes or levels; None: one class.
      iou_threshold: in [0, 1]; a Python number.
      valid: ``[N]`` bool; invalid slots are ignored.
      max_outputs: M, the number of output slots; by default N.

    Returns:
      ``Kept`` with M slots.
    """
    _check_shapes(boxes, scores, idxs, valid)
    valid = jnp.ones(scores.shape, bool) if valid is None else valid
    order = jnp.argsort(jnp.where(valid, scores, -jnp.inf), stable=True, descending=True)  # [N]
    keep = nms_keep(boxes[order], iou_threshold, valid=valid[order], idxs=None if idxs is None else idxs[order])
    kept_first = jnp.argsort(~keep, stable=True)  # [N]
    indices, kept = order[kept_first], keep[kept_first]
    outputs = scores.shape[0] if max_outputs is None else max_outputs
    missing = max(outputs - scores.shape[0], 0)
    indices, kept = (jnp.pad(array[:outputs], (0, missing)) for array in (indices, kept))
    return Kept(jnp.where(kept, indices, 0).astype(jnp.int32), kept)


@jax.named_scope("nms")
def nms_keep(boxes: Array, iou_threshold: float, *, valid: Array, idxs: Array | None = None) -> Array:
    """Greedy NMS of boxes that are sorted by decreasing score, as a mask.

    Args:
      boxes: ``[..., N, 4]`` xyxy, each row sorted by decreasing score; invalid slots may be anywhere.
      iou_threshold: in [0, 1]; a Python number.
      valid: ``[..., N]`` bool.
      idxs: ``[..., N]`` integers; only boxes with equal ``idxs`` suppress each other. None: one class.

    Returns:
      ``[..., N]`` bool. All leading axes share one loop with one scalar predicate.
    """
    boxes = jax.lax.stop_gradient(boxes)
    threshold = _threshold(iou_threshold, float_dtype(boxes))
    suppresses = _overlaps(boxes, boxes, threshold)  # [..., N, N], row suppresses column
    if idxs is not None:
        suppresses &= idxs[..., :, None] == idxs[..., None, :]
    rank = jnp.arange(boxes.shape[-2])
    later = rank[:, None] < rank[None, :]
    suppresses &= later.reshape((1,) * (boxes.ndim - 2) + later.shape)
    return jax.lax.platform_dependent(suppresses, valid, tpu=_fixed_point_by_dot, default=_fixed_point_by_any)


@jax.named_scope("nms")
def greedy_nms(
    boxes: Array,
    scores: Array,
    idxs: Array | None,
    iou_threshold: float,
    *,
    valid: Array | None = None,
    max_outputs: int,
) -> Kept:
    """The first ``max_outputs`` boxes of ``batched_nms``, one per iteration, in memory proportional to N.

    Arguments and result are those of ``batched_nms``. Suited to tens of thousands of candidates and some hundred
    outputs. The compiler knows the number of iterations, so nothing waits for the host.
    """
    _check_shapes(boxes, scores, idxs, valid)
    boxes, scores = jax.lax.stop_gradient(boxes), jax.lax.stop_gradient(scores)
    dtype = float_dtype(boxes)
    threshold = _threshold(iou_threshold, dtype)
    alive = jnp.ones(scores.shape, bool) if valid is None else valid
    if scores.shape[0] == 0:
        return Kept(jnp.zeros(max_outputs, jnp.int32), jnp.zeros(max_outputs, bool))
    # In sorted order, the best remaining box is the first one: a minimum of ranks is cheaper than an argmax of scores.
    order = jnp.argsort(jnp.where(alive, scores, -jnp.inf), stable=True, descending=True)  # [N]
    x1, y1, x2, y2 = (boxes[order, i].astype(dtype) for i in range(4))
    area = box_area(boxes[order])
    classes = None if idxs is None else idxs[order]
    count = scores.shape[0]
    rank = jnp.arange(count)

    def step(alive: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
        first = jnp.min(jnp.where(alive, rank, count))
        found = first < count
        best = jnp.minimum(first, count - 1)
        width = jnp.maximum(jnp.minimum(x2[best], x2) - jnp.maximum(x1[best], x1), 0)
        height = jnp.maximum(jnp.minimum(y2[best], y2) - jnp.maximum(y1[best], y1), 0)
        shared = jnp.maximum(width * height, 0)  # [N]
        gone = shared / (area[best] + area - shared) > threshold
        if classes is not None:
            gone &= classes == classes[best]
        return alive & ~gone & (rank != best), (jnp.where(found, best, 0), found)

    _, (ranks, found) = jax.lax.scan(step, alive[order], None, length=max_outputs)
    return Kept(jnp.where(found, order[ranks], 0).astype(jnp.int32), found)


def _overlaps(boxes1: Array, boxes2: Array, threshold: np.floating) -> Array:
    """Whether the IoU of each pair exceeds ``threshold``, ``[..., N, M]`` bool; False for NaN (boxes without area)."""
    intersection, union = intersection_and_union(boxes1, boxes2)
    return intersection / union > threshold


def _threshold(iou_threshold: float, dtype: DTypeLike) -> np.floating:
    """The threshold rounded down to ``dtype``.

    torchvision compares a float32 IoU with a float64 threshold. For a float32 x, ``x > t`` in float64 is equivalent to
    ``x > t'`` in float32 if t' is t rounded down. Rounded to nearest, t' may be above t (for 0.3, but not for 0.7), and
    an IoU of exactly t' would be decided incorrectly.
    """
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"NMS: iou_threshold must lie in [0, 1], got {iou_threshold}.")
    scalar = np.dtype(dtype).type
    nearest = scalar(iou_threshold)
    return np.nextafter(nearest, scalar(-np.inf)) if float(nearest) > iou_threshold else nearest


def _fixed_point_by_dot(suppresses: Array, valid: Array) -> Array:
    """For TPUs, as a matrix product: 0 and 1 are exact in bfloat16, and their sums in float32."""
    matrix = suppresses.astype(jnp.bfloat16)

    def hit(keep: Array) -> Array:
        row = keep.astype(jnp.bfloat16)[..., None, :]  # [..., 1, N]
        return jnp.matmul(row, matrix, preferred_element_type=jnp.float32)[..., 0, :] > 0

    return _fixed_point(hit, valid)


def _fixed_point_by_any(suppresses: Array, valid: Array) -> Array:
    """For other platforms, as a reduction over rows."""

    def hit(keep: Array) -> Array:
        return jnp.any(suppresses & keep[..., :, None], axis=-2)

    return _fixed_point(hit, valid)


def _fixed_point(hit, valid: Array) -> Array:
    """Iterates ``keep <- valid & ~hit(keep)`` until nothing changes; ``[..., N]`` bool.

    The result is exact: the last iteration reproduces its input. Further iterations do not change converged rows, so
    that all rows of a batch can share one loop.
    """

    def step(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        keep, _ = carry
        previous = keep
        for _ in range(_ITERATIONS_PER_CHECK):
            previous, keep = keep, valid & ~hit(keep)
        return keep, keep != previous

    keep, _ = jax.lax.while_loop(lambda carry: any_in_batch(carry[1]), step, (valid, valid))
    return keep


def _check_shapes(boxes: Array, scores: Array, idxs: Array | None, valid: Array | None) -> None:
    """Raises ValueError if the shapes of the arrays do not match."""
    count = scores.shape[0] if scores.ndim == 1 else -1
    others = [array.shape for array in (idxs, valid) if array is not None]
    if boxes.shape != (count, 4) or any(shape != (count,) for shape in others):
        raise ValueError(
            f"NMS: expected boxes [N, 4] and scores, idxs, valid [N], got {boxes.shape}, {scores.shape}, {others}; "
            "for a batch, use vmap."
        )

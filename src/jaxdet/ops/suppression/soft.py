"""Soft non-maximum suppression (Bodla et al. 2017) with fixed shapes.

Boxes are xyxy in pixels. Each iteration selects the box with the highest score and decays the scores of the others by
their overlap with it, until no score is above the threshold. Boxes are returned with their scores when selected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxdet.ops.boxes import float_dtype

_KINDS = ("gaussian", "linear")


@dataclass(frozen=True)
class SoftNMS:
    """Options of soft-NMS.

    kind: ``"gaussian"``: scores are multiplied by ``exp(-iou^2 / sigma)``; ``"linear"``: by ``1 - iou`` if the IoU is
        above ``iou_threshold``.
    score_threshold: boxes with decayed scores above this are kept.
    plus_one: add one pixel to widths and heights of boxes, as HeadHunter does.
    """

    kind: str = "gaussian"
    sigma: float = 0.25
    iou_threshold: float = 0.3
    score_threshold: float = 0.001
    plus_one: bool = False

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"the kind of soft-NMS must be one of {', '.join(_KINDS)}, not {self.kind!r}")
        if not self.sigma > 0 or not 0 <= self.iou_threshold <= 1 or not self.score_threshold >= 0:
            raise ValueError(f"soft-NMS needs sigma > 0, iou_threshold in [0, 1] and score_threshold >= 0, got {self}")


class SoftKept(NamedTuple):
    """The selected boxes, by decreasing decayed score. Invalid slots have index 0 and score 0."""

    indices: Array  # [M] int32
    scores: Array  # [M] decayed
    valid: Array  # [M] bool


def soft_nms(
    boxes: Array,
    scores: Array,
    idxs: Array | None,
    config: SoftNMS = SoftNMS(),
    *,
    valid: Array | None = None,
    max_outputs: int | None = None,
) -> SoftKept:
    """Soft-NMS of one set of boxes. Ties in score are broken by the lower index.

    Args:
      boxes: ``[N, 4]`` xyxy.
      scores: ``[N]``, not negative.
      idxs: ``[N]`` integers, classes; boxes only affect boxes with equal ``idxs``. None: one class.
      valid: ``[N]`` bool; invalid slots are ignored.
      max_outputs: M, the number of output slots; by default N.

    Returns:
      ``SoftKept`` with M slots, after M iterations in memory proportional to N. Use ``vmap`` for a batch.

    Raises:
      ValueError: the shapes of the arrays do not match.
    """
    count = scores.shape[0] if scores.ndim == 1 else -1
    others = [array.shape for array in (idxs, valid) if array is not None]
    if boxes.shape != (count, 4) or any(shape != (count,) for shape in others):
        raise ValueError(
            f"soft-NMS: expected boxes [N, 4] and scores, idxs, valid [N], got {boxes.shape}, {scores.shape}, "
            f"{others}; for a batch, use vmap."
        )
    outputs = count if max_outputs is None else max_outputs
    boxes, scores = jax.lax.stop_gradient((boxes.astype(float_dtype(boxes)), scores.astype(float_dtype(scores))))
    if count == 0:
        return SoftKept(jnp.zeros(outputs, jnp.int32), jnp.zeros(outputs, scores.dtype), jnp.zeros(outputs, bool))
    known = jnp.ones(count, bool) if valid is None else valid
    boxes = jnp.where(known[:, None], boxes, 0)
    x1, y1, x2, y2 = (boxes[:, i] for i in range(4))
    margin = 1 if config.plus_one else 0
    area = (x2 - x1 + margin) * (y2 - y1 + margin)

    def step(left: Array, _: None) -> tuple[Array, tuple[Array, Array, Array]]:
        best = jnp.argmax(left)
        score = left[best]
        found = score > config.score_threshold
        width = jnp.maximum(jnp.minimum(x2[best], x2) - jnp.maximum(x1[best], x1) + margin, 0)
        height = jnp.maximum(jnp.minimum(y2[best], y2) - jnp.maximum(y1[best], y1) + margin, 0)
        shared = width * height  # [N]
        union = area[best] + area - shared
        iou = jnp.where(union > 0, shared / jnp.where(union > 0, union, 1), 0)
        weight = _decay(iou, config)
        if idxs is not None:
            weight = jnp.where(idxs == idxs[best], weight, 1)
        # Selected and invalid boxes stay at -1, as no weight is negative.
        left = jnp.where(left < 0, left, left * weight).at[best].set(-1)
        return left, (best.astype(jnp.int32), score, found)

    _, (indices, kept, found) = jax.lax.scan(step, jnp.where(known, scores, -1), None, length=outputs)
    return SoftKept(jnp.where(found, indices, 0), jnp.where(found, kept, 0), found)


def _decay(iou: Array, config: SoftNMS) -> Array:
    if config.kind == "gaussian":
        return jnp.exp(-jnp.square(iou) / config.sigma)
    return jnp.where(iou > config.iou_threshold, 1 - iou, 1)

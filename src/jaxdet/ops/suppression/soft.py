"""Soft non-maximum suppression (Bodla et al. 2017) at fixed shapes.

Boxes are xyxy in pixels. The best box left is taken, and every other one's score shrinks by how much the two overlap,
until no score is above the threshold. Each box comes with the score that it had when it was taken.
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
    """How scores decay.

    kind: ``"gaussian"``: by ``exp(-iou^2 / sigma)``; ``"linear"``: by ``1 - iou`` where the IoU is above
        ``iou_threshold``.
    score_threshold: boxes whose score has not decayed to it, or below, are kept.
    plus_one: a box is a pixel wider and higher than its corners lie apart, as HeadHunter measures areas.
    """

    kind: str = "gaussian"
    sigma: float = 0.25
    iou_threshold: float = 0.3
    score_threshold: float = 0.001
    plus_one: bool = False

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"soft-NMS is one of {', '.join(_KINDS)}, not {self.kind!r}")
        if not self.sigma > 0 or not 0 <= self.iou_threshold <= 1 or not self.score_threshold >= 0:
            raise ValueError(f"soft-NMS needs sigma > 0, thresholds from 0 and an IoU of at most 1, unlike {self}")


class SoftKept(NamedTuple):
    """Boxes taken, by decreasing decayed score; a slot that is not valid holds index 0 and score 0."""

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
    """Soft-NMS of one set of boxes; of equal scores the lower index is taken first.

    Args:
      boxes: ``[N, 4]`` xyxy.
      scores: ``[N]``, not negative.
      idxs: ``[N]`` integers; only boxes with equal ones lower each other's score. None: all do.
      valid: ``[N]`` bool; the other slots may hold anything.
      max_outputs: M, the number of output slots; N if not given.

    Returns:
      ``SoftKept`` of M slots. One box is taken a turn, M turns in all, in memory proportional to N; use ``vmap`` for a
      batch.

    Raises:
      ValueError: the arrays do not describe the same N boxes.
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

    def turn(left: Array, _: None) -> tuple[Array, tuple[Array, Array, Array]]:
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
        # A box that was taken, like one that never counted, stays at -1: no weight is negative.
        left = jnp.where(left < 0, left, left * weight).at[best].set(-1)
        return left, (best.astype(jnp.int32), score, found)

    _, (indices, kept, found) = jax.lax.scan(turn, jnp.where(known, scores, -1), None, length=outputs)
    return SoftKept(jnp.where(found, indices, 0), jnp.where(found, kept, 0), found)


def _decay(iou: Array, config: SoftNMS) -> Array:
    if config.kind == "gaussian":
        return jnp.exp(-jnp.square(iou) / config.sigma)
    return jnp.where(iou > config.iou_threshold, 1 - iou, 1)

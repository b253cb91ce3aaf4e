"""The last step of every detector: exact NMS over many candidates, and the best of what it keeps.

Axes: B images, M candidates of an image, D detections.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxdet.ops.suppression.hard import batched_nms, greedy_nms
from jaxdet.types import Detections

FAST_CANDIDATES = 2048  # enough for almost every image: the quadratic NMS sees this many

# (indices [m], their scores [m], arrays of one image) to boxes [m, 4], labels [m] and validity [m].
Candidates = Callable[..., tuple[Array, Array, Array]]


def best_detections(
    candidates: Candidates,
    scores: Array,
    *arrays: Any,
    iou_threshold: float,
    limit: int,
    class_agnostic: bool = False,
) -> Detections:
    """The detections of a batch after NMS, by decreasing score; of equal scores the lower index goes first.

    NMS looks at the 2,048 highest scores. That is exact where they are all there are, and where they yield all the
    detections asked for: what ranks lower could suppress nothing that ranks higher. Otherwise (one image of the batch
    is enough) the greedy algorithm runs over all candidates.

    Args:
        candidates: the boxes of one image at some of its candidates, as only those are decoded that are needed.
        scores: ``[B, M]``; -inf where there is no candidate.
        arrays: of a batch, whose images ``candidates`` is given one at a time.
        iou_threshold: in [0, 1]; a Python number.
        limit: detections an image.
        class_agnostic: boxes of different labels suppress each other, too.

    Returns:
        ``Detections`` of ``min(limit, M)`` slots.
    """

    def suppress(nms: Callable[..., Any], index: Array, scores: Array, *arrays: Any) -> Detections:
        boxes, labels, valid = candidates(index, scores, *arrays)
        groups = None if class_agnostic else labels
        outputs = min(limit, scores.shape[0])
        chosen, kept = nms(boxes, scores, groups, iou_threshold, valid=valid, max_outputs=outputs)
        return pack_detections(boxes, scores, labels, chosen, kept)

    def all_candidates() -> Detections:
        def of_image(scores: Array, *arrays: Any) -> Detections:
            return suppress(greedy_nms, jnp.arange(scores.shape[0]), scores, *arrays)

        return jax.vmap(of_image)(scores, *arrays)

    first = max(FAST_CANDIDATES, limit)
    top, index = jax.lax.top_k(scores, min(first, scores.shape[1]))
    fast = jax.vmap(lambda *of_image: suppress(batched_nms, *of_image))(index, top, *arrays)
    if scores.shape[1] <= first:
        return fast
    overflow = (scores > -jnp.inf).sum(axis=1) > first
    incomplete = jnp.any(overflow & ~fast.valid.all(axis=1))
    return jax.lax.cond(incomplete, all_candidates, lambda: fast)


def pack_detections(boxes: Array, scores: Array, labels: Array, chosen: Array, valid: Array) -> Detections:
    """The candidates of one image at ``chosen [D]``; zeros where not ``valid [D]``."""
    boxes = jnp.where(valid[:, None], boxes[chosen], 0)
    return Detections(boxes, jnp.where(valid, scores[chosen], 0), jnp.where(valid, labels[chosen], 0), valid)

"""The last step of detectors: exact NMS over many candidates, and selection of the best boxes.

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

FAST_CANDIDATES = 2048  # candidates of the NMS with a quadratic matrix; almost no image needs more

# (indices [m], their scores [m], arrays of one image) -> boxes [m, 4], labels [m], validity [m].
Candidates = Callable[..., tuple[Array, Array, Array]]


def best_detections(
    candidates: Candidates,
    scores: Array,
    *arrays: Any,
    iou_threshold: float,
    limit: int,
    class_agnostic: bool = False,
) -> Detections:
    """The detections of a batch after NMS, by decreasing score. Ties in score are broken by the lower index.

    NMS first considers the 2,048 highest scores. The result is exact if there are no other candidates, or if ``limit``
    boxes are kept, because a box never suppresses one with a higher score. Otherwise (even for only one image of the
    batch) the greedy algorithm runs over all candidates.

    Args:
        candidates: a function that decodes the candidates of one image at the given indices; see `Candidates`.
        scores: ``[B, M]``; -inf: no candidate.
        arrays: further arguments of ``candidates``, each with a leading batch axis.
        iou_threshold: in [0, 1]; a Python number.
        limit: maximum number of detections per image.
        class_agnostic: whether boxes with different labels also suppress each other.

    Returns:
        ``Detections`` with ``min(limit, M)`` slots.
    """

    def suppress(nms: Callable[..., Any], index: Array, scores: Array, *arrays: Any) -> Detections:
        boxes, labels, valid = candidates(index, scores, *arrays)
        groups = None if class_agnostic else labels
        outputs = min(limit, scores.shape[0])
        chosen, kept = nms(boxes, scores, groups, iou_threshold, valid=valid, max_outputs=outputs)
        return pack_detections(boxes, scores, labels, chosen, kept)

    def all_candidates() -> Detections:
        def one_image(scores: Array, *arrays: Any) -> Detections:
            return suppress(greedy_nms, jnp.arange(scores.shape[0]), scores, *arrays)

        return jax.vmap(one_image)(scores, *arrays)

    first = max(FAST_CANDIDATES, limit)
    top, index = jax.lax.top_k(scores, min(first, scores.shape[1]))
    fast = jax.vmap(lambda *args: suppress(batched_nms, *args))(index, top, *arrays)
    if scores.shape[1] <= first:
        return fast
    overflow = (scores > -jnp.inf).sum(axis=1) > first
    incomplete = jnp.any(overflow & ~fast.valid.all(axis=1))
    return jax.lax.cond(incomplete, all_candidates, lambda: fast)


def pack_detections(boxes: Array, scores: Array, labels: Array, chosen: Array, valid: Array) -> Detections:
    """The candidates of one image at ``chosen [D]``; zeros where not ``valid [D]``."""
    boxes = jnp.where(valid[:, None], boxes[chosen], 0)
    return Detections(boxes, jnp.where(valid, scores[chosen], 0), jnp.where(valid, labels[chosen], 0), valid)

"""Proposal selection from the outputs of the region proposal network.

Axes: B images, L levels, K candidates of a level, N anchors of a level, R proposals.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxdet.heads.rpn import RPNConfig, RPNOutputs
from jaxdet.ops.box_coder import BoxCoder
from jaxdet.ops.boxes import clip_boxes, float_dtype, large_enough
from jaxdet.ops.suppression.hard import nms_keep
from jaxdet.types import Proposals

MIN_SIZE = 1e-3  # pixels; torchvision's RegionProposalNetwork.min_size


def select_proposals(rpn: RPNOutputs, sizes: Array, config: RPNConfig, *, train: bool = False) -> Proposals:
    """The proposals of every image, in torchvision's order of steps (``filter_proposals``). Not differentiable.

    1. Per level, select the ``pre_nms_top_n`` highest logits; decode their boxes and clip them to the image.
    2. Remove boxes with a side under 0.001 pixels and scores under ``score_thresh``.
    3. NMS within each level.
    4. Keep the ``post_nms_top_n`` highest scores of all levels.

    Args:
        sizes: ``[B, 2]`` height and width of each image in pixels.
        train: selects the ``top_n`` options.
    """
    rpn = jax.lax.stop_gradient(rpn)
    before = config.pre_nms_top_n_train if train else config.pre_nms_top_n_test
    after = config.post_nms_top_n_train if train else config.post_nms_top_n_test
    levels = zip(rpn.logits, rpn.deltas, rpn.anchors, rpn.valid, strict=True)
    candidates = [_level_candidates(*level, sizes, before) for level in levels]
    width = max(scores.shape[1] for _, scores, _ in candidates)
    boxes, logits, valid = (jnp.stack([_pad(c[i], width) for c in candidates], axis=1) for i in range(3))  # [B, L, K]
    scores = jax.nn.sigmoid(logits)
    valid &= large_enough(boxes, MIN_SIZE) & (scores >= config.score_thresh)
    keep = nms_keep(boxes, config.nms_thresh, valid=valid)  # each level is sorted by decreasing score

    batch = boxes.shape[0]
    flat = jnp.where(keep, scores, -jnp.inf).reshape(batch, -1)  # [B, L * K]
    best, index = jax.lax.top_k(flat, min(after, flat.shape[1]))  # [B, R]
    boxes = jnp.take_along_axis(boxes.reshape(batch, -1, 4), index[..., None], axis=1)
    valid = best > -jnp.inf
    return Proposals(boxes=boxes, scores=jnp.where(valid, best, 0), valid=valid)


def _level_candidates(
    logits: Array, deltas: Array, anchors: Array, valid: Array, sizes: Array, count: int
) -> tuple[Array, Array, Array]:
    """Boxes ``[B, K, 4]``, logits ``[B, K]`` in decreasing order and validity ``[B, K]`` of one level."""
    logits = logits.astype(float_dtype(logits))
    ranked, index = jax.lax.top_k(jnp.where(valid, logits, -jnp.inf), min(count, logits.shape[1]))
    deltas, anchors = (jnp.take_along_axis(x, index[..., None], axis=1) for x in (deltas, anchors))
    boxes = BoxCoder().decode(deltas.astype(logits.dtype), anchors.astype(logits.dtype))
    return clip_boxes(boxes, sizes[:, None, :]), ranked, ranked > -jnp.inf


def _pad(x: Array, width: int) -> Array:
    """Pads a level with invalid slots to ``width`` candidates."""
    return jnp.pad(x, ((0, 0), (0, width - x.shape[1])) + ((0, 0),) * (x.ndim - 2))

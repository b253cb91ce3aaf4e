"""Post-processing of RetinaNet: from predictions to detections."""

from __future__ import annotations

import jax
from jax import Array

from jaxdet.heads.dense_head import DenseOutputs
from jaxdet.heads.dense_postprocess import select_detections
from jaxdet.ops.box_coder import BoxCoder
from jaxdet.types import Detections


def postprocess(
    outputs: DenseOutputs,
    sizes: Array,
    *,
    score_thresh: float = 0.05,
    nms_thresh: float = 0.5,
    detections_per_img: int = 300,
    topk_candidates: int = 1000,
) -> Detections:
    """The detections of a batch (torchvision's ``RetinaNet.postprocess_detections``); see `select_detections`.

    Pairs are ranked by logits, which differs from a ranking by scores only if different logits round to the same score.

    Args:
        sizes: ``[B, 2]`` height and width of each image in pixels.
    """
    return select_detections(
        outputs,
        outputs.logits,
        sizes,
        to_scores=jax.nn.sigmoid,
        decode=BoxCoder().decode,
        score_thresh=score_thresh,
        nms_thresh=nms_thresh,
        detections_per_img=detections_per_img,
        topk_candidates=topk_candidates,
    )

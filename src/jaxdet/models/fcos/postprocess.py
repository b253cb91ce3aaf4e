"""Post-processing of FCOS: from predictions to detections."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxdet.heads.dense_postprocess import select_detections
from jaxdet.models.fcos.outputs import FCOSOutputs
from jaxdet.ops.boxes import float_dtype
from jaxdet.ops.linear_box_coder import BoxLinearCoder
from jaxdet.types import Detections


def postprocess(
    outputs: FCOSOutputs,
    sizes: Array,
    *,
    score_thresh: float = 0.2,
    nms_thresh: float = 0.6,
    detections_per_img: int = 100,
    topk_candidates: int = 1000,
) -> Detections:
    """The detections of a batch (torchvision's ``FCOS.postprocess_detections``); see `select_detections`.

    Args:
        sizes: ``[B, 2]`` height and width of each image in pixels.
    """
    scores = [class_scores(*level) for level in zip(outputs.logits, outputs.centerness, strict=True)]
    return select_detections(
        outputs,
        scores,
        sizes,
        to_scores=lambda scores: scores,
        decode=BoxLinearCoder().decode,
        score_thresh=score_thresh,
        nms_thresh=nms_thresh,
        detections_per_img=detections_per_img,
        topk_candidates=topk_candidates,
    )


def class_scores(logits: Array, centerness: Array) -> Array:
    """The geometric mean of class score and centerness, ``[..., K]``, at least float32.

    Args:
        logits: ``[..., K]`` of the classes.
        centerness: ``[...]`` logits.
    """
    dtype = float_dtype(logits)
    classes, central = jax.nn.sigmoid(logits.astype(dtype)), jax.nn.sigmoid(centerness.astype(dtype))
    return jnp.sqrt(classes * central[..., None])

"""The stages of Faster R-CNN for summaries and comparisons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jax import Array

from jaxdet.heads import RoIOutputs, RPNOutputs
from jaxdet.models.detector import Features, Stage, anchor_stage, words
from jaxdet.types import Detections, Images, Proposals

if TYPE_CHECKING:
    from jaxdet.models.faster_rcnn.model import FasterRCNN


def rpn_stages(model: FasterRCNN, maps: Features, rpn: RPNOutputs, images: Images) -> list[Stage]:
    """The stages of the RPN head and the anchors."""
    config = model.config.rpn
    generator = config.anchor_generator
    names = [f"{level} logits" for level in maps] + [f"{level} deltas" for level in maps]
    anchors = generator.num_anchors_per_location()[0]
    detail = f"anchors per location: {anchors}; shared 3x3 convolutions: {config.conv_depth}"
    return [
        Stage((*rpn.logits, *rpn.deltas), "RPN head", detail, tuple(names), module="rpn_head"),
        anchor_stage(generator, rpn.anchors, maps, images.pixels.shape[1:3]),
    ]


def box_stages(
    model: FasterRCNN, proposals: Proposals, pooled: Array, hidden: Array, outputs: RoIOutputs, found: Detections
) -> list[Stage]:
    """The stages from the proposals to the detections."""
    config, rpn, box = model.config, model.config.rpn, model.config.box
    proposed = (
        f"the best {rpn.pre_nms_top_n_test} per level; scores from {rpn.score_thresh}; "
        f"NMS at {rpn.nms_thresh} within each level; the best {rpn.post_nms_top_n_test} of all"
    )
    cells = f"{box.output_size}x{box.output_size} cells from {words(model.pool_levels)}"
    within = "over all classes" if box.class_agnostic_nms else "within each class"
    selected = f"scores above {box.score_thresh}; {model.suppression()} {within}; the best {box.detections_per_img}"
    return [
        Stage((proposals.boxes, proposals.scores), "Proposals", proposed, ("boxes", "scores")),
        Stage((pooled,), "RoIAlign", f"{cells}; sampling ratio {box.sampling_ratio}", ("pooled",), maps=True),
        Stage((hidden,), "Box head", type(model.box_head).__name__, ("features",), module="box_head"),
        Stage(
            (outputs.logits, outputs.deltas),
            "Predictor",
            f"{config.num_classes} classes, including the background",
            ("logits", "deltas"),
            module="box_predictor",
        ),
        Stage((found.boxes, found.scores, found.labels), "Post-processing", selected, ("boxes", "scores", "labels")),
    ]

"""What the sources of torchvision's dense detectors share: a ResNet with a pyramid, and heads with the same names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from jaxdet.backbones import ResNetConfig
from jaxdet_convert.rules import Rule
from jaxdet_convert.sources.backbones import backbone_origin, backbone_rules, inside, read_detector_backbone
from jaxdet_convert.sources.base import Recognised, RecognitionError, Shapes, UnsupportedModuleError
from jaxdet_convert.sources.modules import anchors_of, count_extra_levels, layers_of, transform_options
from jaxdet_convert.sources.parts import FPN, backbone_options, conv, fpn_rules, is_bare, norm_config, read_pyramid

CLASSES, BOXES = "head.classification_head.", "head.regression_head."
CENTERNESS = f"{BOXES}bbox_ctrness."
SSD_HEADS = "_head.module_list."
EXTRA = f"{FPN}extra_blocks."
NORMS = {"backbone.body.": "backbone_norm", "backbone.fpn.": "fpn_norm", "head.": "head_norm"}
PREDICTOR = ("head.classification_head.cls_logits.{p:name}",)
PARTS = {
    "transform": "transform",
    "body": "backbone.body",
    "pyramid": "backbone",
    "head": "head",
    "anchors": "anchor_generator",
}  # the submodules that parity compares


def has_head(shapes: Shapes) -> bool:
    """Whether there is the head of a dense detector on a backbone that can be recognised."""
    return any(name.startswith((CLASSES, BOXES)) for name in shapes) and _has_backbone(shapes)


def has_bare_pyramid(shapes: Shapes) -> bool:
    """Whether there are only a backbone and a pyramid with P6 and P7."""
    return any(name.startswith(EXTRA) for name in shapes) and is_bare(shapes) and _has_backbone(shapes)


def _has_backbone(shapes: Shapes) -> bool:
    return bool(inside(shapes)) and read_detector_backbone(shapes) is not None


def shared_rules(config: Any, origin: Sequence[str]) -> list[Rule]:
    """The rules of backbone, pyramid, class logits and box deltas."""
    return [
        *backbone_rules(config.backbone, origin),
        *fpn_rules(config.fpn),
        *conv(f"{CLASSES}cls_logits", "head.classification.output", bias=True),
        *conv(f"{BOXES}bbox_reg", "head.regression.output", bias=True),
    ]


def recognise_dense(shapes: Shapes, spelling: str, name: str, family: str, norm_names: re.Pattern[str]) -> Recognised:
    """The options that names and shapes determine.

    Args:
        name: of the model.
        family: for the message.
        norm_names: how the names of the head's norms begin.

    Raises:
        RecognitionError: the backbone is not a ResNet.
    """
    backbone = read_detector_backbone(shapes)
    assert backbone is not None
    if backbone.config is not ResNetConfig:
        raise RecognitionError(f"these weights are of a {family} on a {backbone.name}; jaxdet has it on ResNets")
    options = backbone_options(backbone, name) | read_pyramid(shapes, backbone).options()
    if not any(key.startswith(EXTRA) for key in shapes):
        options["fpn_p6p7"] = None
    bare = not any(key.startswith("head.") for key in shapes)
    norms = [key for key in shapes if norm_names.match(key)]
    if not bare:
        options["head_norm"] = norm_config(norms) if norms else None
    boxes, logits = (shapes.get(f"{part}.weight") for part in (f"{BOXES}bbox_reg", f"{CLASSES}cls_logits"))
    anchors = 0 if boxes is None else boxes[0] // 4
    if logits is not None and anchors:
        options["num_classes"] = logits[0] // anchors
    return Recognised(name, options, ("torchvision", spelling, *backbone_origin(backbone)), anchors, bare)


def live_options(module: Any, found: Recognised) -> dict[str, Any]:
    """The options of transform, pyramid, anchors and post-processing of a PyTorch module.

    Raises:
        UnsupportedModuleError: the head has another activation than ReLU.
    """
    levels = found.options.get("fpn_levels", ())
    extra = count_extra_levels(module.backbone.fpn, found.options.get("fpn_p6p7"))
    _check_activations(module)
    return transform_options(module.transform) | {
        "fpn_pool": extra == 1,
        "anchor_generator": anchors_of(module.anchor_generator, len(levels) + extra),
        "score_thresh": module.score_thresh,
        "nms_thresh": module.nms_thresh,
        "detections_per_img": module.detections_per_img,
        "topk_candidates": module.topk_candidates,
    }


def _check_activations(module: Any) -> None:
    """Refuses other activations than ReLU in the head, which state dicts do not show."""
    for path, layer in layers_of(module):
        kind = type(layer).__name__
        if path.startswith((f"{CLASSES}conv.", f"{BOXES}conv.")) and not layer.state_dict() and kind != "ReLU":
            raise UnsupportedModuleError(f"{path} is a {kind}, but jaxdet only supports ReLU in the head")


def assumed_options(config: Any, own: Iterable[str]) -> dict[str, str | None]:
    """The options that state dicts do not determine, with ``own`` those of the family; see `Source.assumed`."""
    found: dict[str, str | None] = dict.fromkeys(
        (
            "min_size", "max_size", "anchor_generator", "image_mean", "image_std", *own, "score_thresh",
            "nms_thresh", "detections_per_img", "topk_candidates", "names",
        )
    )  # fmt: skip
    if config.head_norm is not None and config.head_norm.kind == "group":
        found["head_norm_groups"] = str(config.head_norm.groups)
    return found

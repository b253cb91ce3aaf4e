"""torchvision's RetinaNet, version 1 and 2 (with norms in the head, and P6 computed from C5)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from jaxdet.backbones import ResNetConfig
from jaxdet.models import RetinaNetConfig
from jaxdet.models.retinanet.losses import BOX_LOSSES
from jaxdet_convert.parity import dense
from jaxdet_convert.parity.calibration import calibrate_dense
from jaxdet_convert.rules import Spelling, Table
from jaxdet_convert.sources.backbones import backbone_origin, backbone_rules, inside, read_detector_backbone
from jaxdet_convert.sources.base import Parity, Recognised, RecognitionError, Shapes, Source, UnsupportedModuleError
from jaxdet_convert.sources.modules import anchors_of, count_extra_levels, expect, layers_of, transform_options
from jaxdet_convert.sources.parts import (
    BARE_SPELLINGS,
    FPN,
    OLD_FPN,
    backbone_options,
    conv,
    fpn_rules,
    has_old_fpn,
    is_bare,
    norm,
    norm_config,
    read_pyramid,
)

_CLASSES, _BOXES = "head.classification_head.", "head.regression_head."
_EXTRA = f"{FPN}extra_blocks."
_OTHERS = (".bbox_ctrness.", "_head.module_list.")  # of FCOS and SSD, whose heads otherwise have the same names
_NORM = re.compile(r"head\.\w+_head\.conv\.\d+\.1\.")
_UNIT_WEIGHTS = (1.0, 1.0, 1.0, 1.0)


def _claims(shapes: Shapes) -> bool:
    headed = any(name.startswith((_CLASSES, _BOXES)) for name in shapes)
    others = any(mark in name for mark in _OTHERS for name in shapes)
    bare = any(name.startswith(_EXTRA) for name in shapes) and is_bare(shapes)
    return ((headed and not others) or bare) and bool(inside(shapes)) and read_detector_backbone(shapes) is not None


def _recognise(shapes: Shapes, spelling: str) -> Recognised:
    backbone = read_detector_backbone(shapes)
    assert backbone is not None
    if backbone.config is not ResNetConfig:
        raise RecognitionError(f"these weights are of a RetinaNet on a {backbone.name}; jaxdet has it on ResNets")
    pyramid = read_pyramid(shapes, backbone)
    norms = [name for name in shapes if _NORM.match(name)]
    bare = not any(name.startswith("head.") for name in shapes)
    second = bool(norms) or (bare and pyramid.p6p7 == "c5")
    name = "retinanet_resnet50_fpn" + ("_v2" if second else "")
    options = backbone_options(backbone, name) | pyramid.options()
    if not any(key.startswith(_EXTRA) for key in shapes):
        options["fpn_p6p7"] = None
    if not bare:
        options["head_norm"] = norm_config(norms) if norms else None
    boxes, logits = (shapes.get(f"{part}.weight") for part in (f"{_BOXES}bbox_reg", f"{_CLASSES}cls_logits"))
    anchors = 0 if boxes is None else boxes[0] // 4
    if logits is not None and anchors:
        options["num_classes"] = logits[0] // anchors
    return Recognised(name, options, ("torchvision", spelling, *backbone_origin(backbone)), anchors, bare)


def _table(config: Any, origin: Sequence[str]) -> Table:
    rules = [*backbone_rules(config.backbone, origin), *fpn_rules(config.fpn)]
    theirs, ours = "head.{part:classification|regression}_head.conv.{i}", "head.{part}.tower.{i}"
    rules += conv(f"{theirs}.0", f"{ours}.conv", bias=True) + norm(f"{theirs}.1", f"{ours}.norm")
    rules += conv(f"{_CLASSES}cls_logits", "head.classification.output", bias=True)
    rules += conv(f"{_BOXES}bbox_reg", "head.regression.output", bias=True)
    return Table(tuple(rules), RETINANET.respelled)


def _live(module: Any, found: Recognised) -> dict[str, Any]:
    levels = found.options.get("fpn_levels", ())
    extra = count_extra_levels(module.backbone.fpn, found.options.get("fpn_p6p7"))
    for coder in (module.box_coder, module.head.regression_head.box_coder):
        expect(coder, "weights", _UNIT_WEIGHTS)
    expect(module.proposal_matcher, "allow_low_quality_matches", True)
    _check_activations(module)
    loss = getattr(module.head.regression_head, "_loss_type", BOX_LOSSES[0])
    if loss not in BOX_LOSSES:
        raise UnsupportedModuleError(f"the box loss is {loss!r}, but jaxdet has {', '.join(BOX_LOSSES)}")
    return transform_options(module.transform) | {
        "fpn_pool": extra == 1,
        "anchor_generator": anchors_of(module.anchor_generator, len(levels) + extra),
        "box_loss": loss,
        "score_thresh": module.score_thresh,
        "nms_thresh": module.nms_thresh,
        "detections_per_img": module.detections_per_img,
        "topk_candidates": module.topk_candidates,
        "fg_iou_thresh": module.proposal_matcher.high_threshold,
        "bg_iou_thresh": module.proposal_matcher.low_threshold,
    }


def _check_activations(module: Any) -> None:
    """Refuses other activations than ReLU in the head, which state dicts do not show."""
    for path, layer in layers_of(module):
        kind = type(layer).__name__
        if path.startswith((f"{_CLASSES}conv.", f"{_BOXES}conv.")) and not layer.state_dict() and kind != "ReLU":
            raise UnsupportedModuleError(f"{path} is a {kind}, but jaxdet only supports ReLU in the head")


def _assumed(config: Any) -> dict[str, str | None]:
    found: dict[str, str | None] = dict.fromkeys(
        (
            "min_size", "max_size", "anchor_generator", "image_mean", "image_std", "box_loss", "score_thresh",
            "nms_thresh", "detections_per_img", "topk_candidates", "names",
        )
    )  # fmt: skip
    if config.head_norm is not None and config.head_norm.kind == "group":
        found["head_norm_groups"] = str(config.head_norm.groups)
    return found


def _old_head() -> tuple[Spelling, ...]:
    """The names from before torchvision 0.13, where convolutions and activations were in one sequence."""
    part = "{part:classification_head|regression_head}"
    return tuple(
        Spelling(f"head.{part}.conv.{2 * index}.{{p:weight|bias}}", f"head.{{part}}.conv.{index}.0.{{p}}")
        for index in range(4)
    )


RETINANET = Source(
    config=RetinaNetConfig,
    claims=_claims,
    recognise=_recognise,
    table=_table,
    old={"head": _old_head(), "fpn": (OLD_FPN,)},
    has_old=lambda config: config.head_norm is None and has_old_fpn(config.fpn),
    bare=BARE_SPELLINGS,
    predictor=("head.classification_head.cls_logits.{p:name}",),
    norms={"backbone.body.": "backbone_norm", "backbone.fpn.": "fpn_norm", "head.": "head_norm"},
    live=_live,
    assumed=_assumed,
    parity=Parity(
        compare=partial(
            dense.compare,
            parts={
                "transform": "transform",
                "body": "backbone.body",
                "pyramid": "backbone",
                "head": "head",
                "anchors": "anchor_generator",
            },
        ),
        builders=("retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2"),
        calibrate=calibrate_dense,
    ),
)

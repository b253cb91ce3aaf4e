"""torchvision's Faster R-CNN with a feature pyramid."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from jaxdet.backbones import Darknet53Config, MobileNetV1Config, ResNetConfig
from jaxdet.models import FasterRCNNConfig
from jaxdet_convert.parity import two_stage
from jaxdet_convert.parity.calibration import calibrate_two_stage
from jaxdet_convert.rules import Rule, Spelling, Table, flatten_linear
from jaxdet_convert.sources.backbones import backbone_origin, backbone_rules, inside, read_detector_backbone
from jaxdet_convert.sources.base import (
    Parity,
    Recognised,
    RecognisedBackbone,
    RecognitionError,
    Shapes,
    Source,
    UnsupportedModuleError,
)
from jaxdet_convert.sources.modules import anchors_of, as_tuple, count_extra_levels, expect, transform_options
from jaxdet_convert.sources.parts import (
    BARE_SPELLINGS,
    BODY,
    FPN,
    OLD_FPN,
    Pyramid,
    backbone_options,
    conv,
    fpn_rules,
    has_old_fpn,
    is_bare,
    linear,
    norm,
    norm_config,
    numbered,
    read_pyramid,
    seen,
)

_RPN, _BOX, _PREDICTOR = "rpn.head.", "roi_heads.box_head.", "roi_heads.box_predictor."
_PRESETS: dict[type, str] = {
    ResNetConfig: "fasterrcnn_resnet50_fpn",
    MobileNetV1Config: "fasterrcnn_mobilenet_v1_fpn",
    Darknet53Config: "fasterrcnn_darknet53_fpn",
}
_NORMS = {"backbone.body.": "backbone_norm", "backbone.fpn.": "fpn_norm", "roi_heads.box_head.": "box_norm"}
_PARTS = {
    "transform": "transform",
    "body": "backbone.body",
    "pyramid": "backbone",
    "head": "rpn.head",
    "anchors": "rpn.anchor_generator",
    "rpn": "rpn",
    "pool": "roi_heads.box_roi_pool",
    "predictor": "roi_heads.box_predictor",
}
ASSUMED = (
    "min_size", "max_size", "rpn_anchor_generator", "image_mean", "image_std", "bbox_reg_weights", "box_sampling_ratio",
    "box_score_thresh", "box_nms_thresh", "box_detections_per_img", "names",
)  # fmt: skip


@dataclass(frozen=True)
class TwoStage:
    """The parts of a two-stage detector that names and shapes determine.

    Attributes:
        classes: the option ``num_classes``, if known.
        box: options of the box head.
        anchors: anchors per location; 0: unknown.
        bare: whether the heads are missing.
    """

    backbone: RecognisedBackbone
    pyramid: Pyramid
    classes: dict[str, Any]
    box: dict[str, Any]
    anchors: int
    bare: bool


def read_two_stage(shapes: Shapes, beside: tuple[str, ...] = ()) -> TwoStage:
    """Recognises the parts of a two-stage detector, with or without heads.

    Args:
        beside: templates of names that weights without heads may also contain.

    Raises:
        RecognitionError: whole parts are missing, or the pyramid does not fit the backbone.
    """
    backbone = read_detector_backbone(shapes)
    assert backbone is not None
    # If only single tensors are missing, the strict conversion lists them.
    missing = [part for part in (FPN, _RPN, "roi_heads.box_") if not any(name.startswith(part) for name in shapes)]
    bare = is_bare(shapes, beside)
    if missing and not bare:
        others = {name: shape for name, shape in shapes.items() if not name.startswith(BODY)}
        raise RecognitionError(
            f"these weights have a {backbone.name} backbone, but are not those of a Faster R-CNN with a pyramid: "
            f"there is nothing under {', '.join(missing)}; besides the backbone there are {seen(others)}"
        )
    score = shapes.get(f"{_PREDICTOR}cls_score.weight")
    classes = {} if score is None else {"num_classes": score[0]}
    pyramid = read_pyramid(shapes, backbone)
    box = {} if bare else _box_head(shapes, 256 if pyramid.width is None else pyramid.width)
    logits = shapes.get(f"{_RPN}cls_logits.weight")
    return TwoStage(backbone, pyramid, classes, box, 0 if logits is None else logits[0], bare)


def _box_head(shapes: Shapes, width: int) -> dict[str, Any]:
    convs = numbered(shapes, rf"{re.escape(_BOX)}(\d+)\.0\.weight")
    first = f"{_BOX}{len(convs) + 1}.weight" if convs else f"{_BOX}fc6.weight"  # after nn.Flatten
    options: dict[str, Any] = {"box_conv_layers": tuple(shape[0] for shape in convs)}
    if convs:
        options["box_norm"] = norm_config([name for name in shapes if re.match(rf"{re.escape(_BOX)}\d+\.1\.", name)])
    if (shape := shapes.get(first)) is not None:
        options["box_representation_size"] = shape[0]
        side = math.isqrt(shape[1] // (convs[-1][0] if convs else width))
        options["box_output_size"] = max(side, 1)
    return options


def _recognise(shapes: Shapes, spelling: str) -> Recognised:
    read = read_two_stage(shapes)
    backbone, pyramid = read.backbone, read.pyramid
    depth = len(numbered(shapes, rf"{re.escape(_RPN)}conv\.(\d+)\.0\.weight"))
    name = _PRESETS[backbone.config]
    if backbone.config is ResNetConfig and (pyramid.names or depth > 1 or read.box.get("box_conv_layers")):
        name += "_v2"
    options = backbone_options(backbone, name) | read.classes | pyramid.options()
    options |= {"rpn_conv_depth": max(depth, 1)} | read.box
    origin = ("torchvision", spelling, *backbone_origin(backbone))
    return Recognised(name, options, origin, read.anchors, read.bare)


def two_stage_rules(config: Any, origin: Sequence[str]) -> list[Rule]:
    """The rules for backbone, pyramid and heads of two-stage detectors."""
    side = config.box.output_size
    rules = [*backbone_rules(config.backbone, origin), *fpn_rules(config.fpn)]
    rules += conv(f"{_RPN}conv.{{i}}.0", "rpn_head.conv.{i}.conv", bias=True)
    rules += conv(f"{_RPN}cls_logits", "rpn_head.cls_logits", bias=True)
    rules += conv(f"{_RPN}bbox_pred", "rpn_head.bbox_pred", bias=True)
    if config.box.conv_layers:
        for index in range(len(config.box.conv_layers)):
            rules += conv(f"{_BOX}{index}.0", f"box_head.convs.{index}.conv")
            rules += norm(f"{_BOX}{index}.1", f"box_head.convs.{index}.norm")
        flatten = flatten_linear(config.box.conv_layers[-1], side, side)
        rules += linear(f"{_BOX}{len(config.box.conv_layers) + 1}", "box_head.fc", flatten)  # after nn.Flatten
    else:
        rules += linear(_BOX + "fc6", "box_head.fc6", flatten_linear(config.fpn.out_channels, side, side))
        rules += linear(_BOX + "fc7", "box_head.fc7")
    rules += linear(_PREDICTOR + "cls_score", "box_predictor.cls_score")
    return rules + linear(_PREDICTOR + "bbox_pred", "box_predictor.bbox_pred")


def _table(config: Any, origin: Sequence[str]) -> Table:
    return Table(tuple(two_stage_rules(config, origin)), FASTER_RCNN.respelled)


def _live(module: Any, found: Recognised) -> dict[str, Any]:
    levels: tuple[str, ...] = found.options.get("fpn_levels", ())
    extra = count_extra_levels(module.backbone.fpn, found.options.get("fpn_p6p7"))
    return {"fpn_pool": extra == 1} | two_stage_live(module, levels, len(levels) + extra)


def two_stage_live(module: Any, levels: tuple[str, ...], maps: int) -> dict[str, Any]:
    """Options of a two-stage detector, read from its module.

    Args:
        levels: the pyramid levels that are the backbone's.
        maps: the number of all pyramid levels.
    """
    return transform_options(module.transform) | _rpn(module.rpn, maps) | _roi_heads(module, levels)


def _rpn(rpn: Any, maps: int) -> dict[str, Any]:
    anchors = anchors_of(rpn.anchor_generator, maps)
    expect(rpn, "min_size", 1e-3)
    expect(rpn.box_coder, "weights", (1.0, 1.0, 1.0, 1.0))
    options: dict[str, Any] = {"rpn_anchor_generator": anchors}
    for when, key in (("train", "training"), ("test", "testing")):
        options[f"rpn_pre_nms_top_n_{when}"] = rpn._pre_nms_top_n[key]
        options[f"rpn_post_nms_top_n_{when}"] = rpn._post_nms_top_n[key]
    return options | _thresholds("rpn", rpn)


def _roi_heads(module: Any, levels: tuple[str, ...]) -> dict[str, Any]:
    heads = module.roi_heads
    pool = heads.box_roi_pool
    sides = set(as_tuple(pool.output_size))
    if len(sides) != 1:
        raise UnsupportedModuleError(
            f"RoIAlign's output is {tuple(pool.output_size)}, but jaxdet only supports squares"
        )
    expect(pool, "canonical_scale", 224)
    expect(pool, "canonical_level", 4)
    return {
        "box_pool_levels": _read_pool_levels(module, levels),
        "box_output_size": sides.pop(),
        "box_sampling_ratio": pool.sampling_ratio,
        "bbox_reg_weights": tuple(float(weight) for weight in heads.box_coder.weights),
        "box_detections_per_img": heads.detections_per_img,
        **_thresholds("box", heads),
    }


def _read_pool_levels(module: Any, levels: tuple[str, ...]) -> tuple[str, ...] | None:
    """The levels that RoIAlign pools from; None: all."""
    names = list(module.roi_heads.box_roi_pool.featmap_names)
    layers = getattr(module.backbone.body, "return_layers", None)
    keys = names if layers is None else list(layers.values())
    pooled = tuple(level for level, key in zip(levels, keys, strict=False) if key in names)
    if len(keys) != len(levels) or not pooled:
        raise UnsupportedModuleError(f"RoIAlign takes the maps {names}, but the pyramid's are {keys}")
    return None if pooled == levels else pooled


def _thresholds(prefix: str, part: Any) -> dict[str, Any]:
    """The options that both stages have."""
    return {
        f"{prefix}_nms_thresh": part.nms_thresh,
        f"{prefix}_score_thresh": part.score_thresh,
        f"{prefix}_fg_iou_thresh": part.proposal_matcher.high_threshold,
        f"{prefix}_bg_iou_thresh": part.proposal_matcher.low_threshold,
        f"{prefix}_batch_size_per_image": part.fg_bg_sampler.batch_size_per_image,
        f"{prefix}_positive_fraction": part.fg_bg_sampler.positive_fraction,
    }


FASTER_RCNN = Source(
    config=FasterRCNNConfig,
    claims=lambda shapes: bool(inside(shapes)) and read_detector_backbone(shapes) is not None,
    recognise=_recognise,
    table=_table,
    old={
        "rpn": (Spelling("rpn.head.conv.{p:weight|bias}", "rpn.head.conv.0.0.{p}"),),
        "fpn": (OLD_FPN,),
    },
    has_old=lambda config: config.rpn.conv_depth == 1 and has_old_fpn(config.fpn),
    bare=BARE_SPELLINGS,
    predictor=("roi_heads.box_predictor.{x:path}",),
    norms=_NORMS,
    live=_live,
    assumed=lambda config: dict.fromkeys(ASSUMED),
    parity=Parity(
        compare=partial(two_stage.compare, parts=_PARTS),
        notes=two_stage.notes,
        builders=("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2"),
        calibrate=calibrate_two_stage,
    ),
)

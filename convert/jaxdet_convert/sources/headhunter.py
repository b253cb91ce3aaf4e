"""HeadHunter with the original's names, which are also those of RetinaFace without its heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jaxdet.backbones import MobileNetV1Config, ResNetConfig
from jaxdet.models import HeadHunterConfig, model_config
from jaxdet.models.options import show
from jaxdet_convert.rules import CONV_TRANSPOSE, Rule, Table
from jaxdet_convert.sources.backbones import backbone_of, backbone_origin, inside, read_detector_backbone
from jaxdet_convert.sources.base import Recognised, RecognisedBackbone, RecognitionError, Shapes
from jaxdet_convert.sources.faster_rcnn import ASSUMED, FASTER_RCNN, read_two_stage, two_stage_live, two_stage_rules
from jaxdet_convert.sources.parts import LATERAL, backbone_options, conv, norm, norm_config

_MARKS = ("backbone.fpn.output", "backbone.ssh", "rpn.upscale_feat.", "roi_heads.upscale_feat.")
_RETINAFACE_HEADS = ("ClassHead.{x:path}", "BboxHead.{x:path}", "LandmarkHead.{x:path}")
_PRESETS: dict[type, str] = {ResNetConfig: "headhunter_resnet50", MobileNetV1Config: "headhunter_mobilenet"}
_DEEP = "headhunter_resnet152"
_SSH = {
    "conv3X3": "conv3",
    "conv5X5_1": "conv5_1",
    "conv5X5_2": "conv5_2",
    "conv7X7_2": "conv7_2",
    "conv7x7_3": "conv7_3",
}
_CPM_NORMED = "{n:branch1|branch2a|branch2b|branch2c|ssh_final}"
_CPM_PLAIN = "{n:ssh_1|ssh_dimred|ssh_2|ssh_3a|ssh_3b}"


def _claims(shapes: Shapes) -> bool:
    """Whether the weights have a part that torchvision's detectors do not have."""
    marked = any(name.startswith(_MARKS) for name in shapes)
    return marked and bool(inside(shapes)) and read_detector_backbone(shapes) is not None


def _recognise(shapes: Shapes, spelling: str) -> Recognised:
    read = read_two_stage(shapes, _RETINAFACE_HEADS)
    name = _name(read.backbone)
    options = backbone_options(read.backbone, name) | read.classes
    if read.pyramid.width is not None:
        options["fpn_out_channels"] = read.pyramid.width
    if read.pyramid.levels is not None:
        options["return_layers"] = read.pyramid.levels
    options |= _own_options(shapes) | read.box
    options.pop("box_conv_layers", None)
    origin = ("torchvision", spelling, *backbone_origin(read.backbone))
    return Recognised(name, options, origin, read.anchors, read.bare)


def _name(backbone: RecognisedBackbone) -> str:
    if backbone.config not in _PRESETS:
        raise RecognitionError(f"a HeadHunter on a {backbone.name}; jaxdet has it on ResNets and MobileNets")
    deep: Any = model_config(_DEEP)
    return _DEEP if backbone.named.get("blocks") == deep.backbone.blocks else _PRESETS[backbone.config]


def _also(shapes: Shapes, found: Recognised) -> str | None:
    """A HeadHunter with four levels, without context and upscaling, has the same names as torchvision's detector."""
    known = found.options
    plain = known.get("rpn_conv_depth") == 1 and known["fpn_norm"] is None and not known.get("box_conv_layers")
    if not plain or "fpn_p6p7" in known or ("fpn_levels" in known and len(known["fpn_levels"]) != 4):
        return None
    backbone = read_detector_backbone(shapes)
    return _name(backbone) if backbone is not None and backbone.config is ResNetConfig else None


def _own_options(shapes: Shapes) -> dict[str, Any]:
    """HeadHunter's additional options, except the levels."""
    options: dict[str, Any] = {"upscale_rpn": any(".upscale_feat." in name for name in shapes)}
    if LATERAL.format(1) in shapes:
        options["fpn_norm"] = norm_config([name for name in shapes if name.startswith("backbone.fpn.")])
    context = [name for name in shapes if name.startswith("backbone.ssh")]
    options["context"] = _context_kind(context)
    if options["context"]:
        options["context_norm"] = norm_config(context)
    filters = shapes.get("backbone.ssh1.conv5X5_1.0.weight")
    if options["context"] in ("ssh", "deform_ssh"):
        options["default_filter"] = filters is not None and filters[-1] == 3
    return options


def _context_kind(names: list[str]) -> str | None:
    if not names:
        return None
    if any(".branch2a." in name for name in names):
        return "cpm"
    if any(".p_conv." in name for name in names):
        return "deform_ssh"
    if any(".conv3X3." in name for name in names):
        return "ssh"
    raise RecognitionError(f"a detector whose context modules are neither SSH nor CPM: {', '.join(names[:6])}")


def _table(config: Any, origin: Sequence[str]) -> Table:
    rules = two_stage_rules(config, origin)
    for level in range(len(config.fpn.levels) if config.has_context else 0):
        rules += _context_rules(config.context.kind, f"backbone.ssh{level + 1}", f"context.{level}")
    for theirs, ours in (("rpn", "rpn_upscale"), ("roi_heads", "box_upscale")):
        rules += conv(f"{theirs}.upscale_feat", ours, transform=CONV_TRANSPOSE, bias=True)
    return Table(tuple(rules), HEADHUNTER.respelled)


def _context_rules(kind: str | None, source: str, target: str) -> list[Rule]:
    """The rules for the context module of one level."""
    if kind == "cpm":
        rules = conv(f"{source}.{_CPM_NORMED}.0", f"{target}.{{n}}.conv")
        rules += norm(f"{source}.{_CPM_NORMED}.1", f"{target}.{{n}}.norm")
        return rules + conv(f"{source}.{_CPM_PLAIN}", f"{target}.{{n}}.conv", bias=True)
    rules = []
    for theirs, ours in _SSH.items():
        old, new = f"{source}.{theirs}", f"{target}.{ours}"
        if kind == "deform_ssh" and ours == "conv3":
            rules += conv(f"{old}.0.conv", f"{new}.conv")
            rules += conv(f"{old}.0.p_conv", f"{new}.conv.offset", bias=True)
            rules += conv(f"{old}.0.m_conv", f"{new}.conv.modulation", bias=True)
        else:
            rules += conv(f"{old}.0", f"{new}.conv")
        rules += norm(f"{old}.1", f"{new}.norm")
    return rules


def _live(module: Any, found: Recognised) -> dict[str, Any]:
    levels: tuple[str, ...] = found.options.get("return_layers", ())
    soft = {"soft_nms": True} if getattr(module.roi_heads, "soft_nms", False) else {}
    return soft | two_stage_live(module, levels, len(levels))


def _is_live(module: Any) -> bool:
    """Whether a module with torchvision's names has soft-NMS, or no anchors for the pooled level."""
    levels = len(module.backbone.fpn.inner_blocks)
    sizes = getattr(module.rpn.anchor_generator, "sizes", ())
    return bool(getattr(module.roi_heads, "soft_nms", False)) or len(sizes) != levels + 1


def _assumed(config: Any) -> dict[str, str | None]:
    found: dict[str, str | None] = dict.fromkeys((*ASSUMED, "rpn_smooth_l1_beta", "box_smooth_l1_beta"))
    deep: Any = model_config(_DEEP)
    if getattr(config.backbone, "blocks", None) == deep.backbone.blocks:
        levels = config.box.pool_levels
        found["box_pool_levels"] = f"{show(levels) if levels else 'all'} (the original's: layer1, layer4)"
    return found


def _describe(config: Any) -> str:
    context = config.context.kind or "no context"
    if config.context.kind in ("ssh", "deform_ssh"):
        context += " of 3x3 filters" if config.context.default_filter else " of large filters"
    backbone = backbone_of(config.backbone).describe(config.backbone)
    parts = [backbone, f"{len(config.fpn.levels)} levels", context]
    return ", ".join([*parts, "upscaled" if config.upscale_rpn else "not upscaled"])


HEADHUNTER = replace(
    FASTER_RCNN,
    config=HeadHunterConfig,
    claims=_claims,
    recognise=_recognise,
    also=_also,
    table=_table,
    dropped=_RETINAFACE_HEADS,
    trunk=("backbone.", "fpn.", "context."),
    norms={**FASTER_RCNN.norms, "backbone.ssh": "context_norm"},
    live=_live,
    is_live=_is_live,
    assumed=_assumed,
    says={
        "preset": ("image_mean", "image_std", "box_score_thresh", "box_detections_per_img"),
        "median_anchors": ("rpn_anchor_generator",),
    },
    describe=_describe,
    parity=replace(FASTER_RCNN.parity, builders=(), calibrate=None),
)

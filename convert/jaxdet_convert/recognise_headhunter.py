"""Which HeadHunter some weights are of, from their names and shapes; RetinaFace's pyramid and context are the same."""

from __future__ import annotations

from typing import Any

from jaxdet.backbones import MobileNetV1Config
from jaxdet.models import HeadHunterConfig
from jaxdet_convert.recognise_body import RESNETS, Body, RecognitionError, Shapes, norm_config

RETINAFACE_HEADS = ("ClassHead.{x:path}", "BboxHead.{x:path}", "LandmarkHead.{x:path}")
LATERAL = "backbone.fpn.output{}.0.weight"
_MARKS = ("backbone.fpn.output", "backbone.ssh", "rpn.upscale_feat.", "roi_heads.upscale_feat.")
_MODELS = {"resnet": "headhunter_resnet50", "mobilenet": "headhunter_mobilenet"}


def is_headhunter(shapes: Shapes) -> bool:
    """Whether there is a part that torchvision's detectors do not have."""
    return any(name.startswith(_MARKS) for name in shapes)


def headhunter_name(body: Body) -> str | None:
    """The HeadHunter on a body; None where there is none."""
    if body.name == "resnet152":
        return "headhunter_resnet152"
    return next((name for kind, name in _MODELS.items() if body.name.startswith(kind)), None)


def headhunter_options(shapes: Shapes) -> dict[str, Any]:
    """The options that are HeadHunter's own, but for its levels.

    Raises:
        RecognitionError: its context modules are of no known kind.
    """
    options: dict[str, Any] = {"upscale_rpn": any(".upscale_feat." in name for name in shapes)}
    if LATERAL.format(1) in shapes:
        options["fpn_norm"] = norm_config([name for name in shapes if name.startswith("backbone.fpn.")])
    context = [name for name in shapes if name.startswith("backbone.ssh")]
    options["context"] = _context(context)
    if options["context"]:
        options["context_norm"] = norm_config(context)
    filters = shapes.get("backbone.ssh1.conv5X5_1.0.weight")
    if options["context"] in ("ssh", "deform_ssh"):
        options["default_filter"] = filters is not None and filters[-1] == 3
    return options


def backbone_blocks(body: Body, name: str) -> dict[str, Any]:
    """The option of a ResNet's depth, where the detector of this name has another."""
    default = RESNETS["resnet152" if name == "headhunter_resnet152" else "resnet50"]
    blocks = body.options.get("blocks", RESNETS.get(body.name, default))
    return {} if blocks == default else {"backbone_blocks": blocks}


def _context(names: list[str]) -> str | None:
    if not names:
        return None
    if any(".branch2a." in name for name in names):
        return "cpm"
    if any(".p_conv." in name for name in names):
        return "deform_ssh"
    if any(".conv3X3." in name for name in names):
        return "ssh"
    raise RecognitionError(f"a detector whose context modules are neither SSH nor CPM: {', '.join(names[:6])}")


def describe(config: HeadHunterConfig) -> str:
    """The variant, as ``jaxdet convert`` says it."""
    context = config.context.kind or "no context"
    if config.context.kind in ("ssh", "deform_ssh"):
        context += " of 3x3 filters" if config.context.default_filter else " of large filters"
    parts = [_body(config.backbone), f"{len(config.fpn.levels)} levels", context]
    return ", ".join([*parts, "upscaled" if config.upscale_rpn else "not upscaled"])


def _body(config: Any) -> str:
    if isinstance(config, MobileNetV1Config):
        return f"MobileNetV1 x{config.width:g} with a {config.stem[:3]} stem of stride {config.stem[-1]}"
    names = {blocks: name.replace("resnet", "ResNet-") for name, blocks in RESNETS.items()}
    return names.get(config.blocks, f"ResNet of {config.blocks} blocks")

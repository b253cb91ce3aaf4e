"""MobileNetV1 with the names of RetinaFace's PyTorch implementation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxdet.backbones import MobileNetV1, MobileNetV1Config
from jaxdet.backbones.mobilenet_v1 import STAGES
from jaxdet_convert.rules import DEPTHWISE, Rule
from jaxdet_convert.sources.base import BackboneSource, RecognisedBackbone, RecognitionError, Shapes
from jaxdet_convert.sources.modules import leaky_slope
from jaxdet_convert.sources.parts import conv, linear, norm, norm_config

_STEMS: dict[tuple[int, ...], str] = {(3, 3): "3x3s2", (2, 2): "2x2s1"}


def _read(shapes: Shapes, naming: str) -> RecognisedBackbone:
    last_stage, last_channels = len(STAGES), STAGES[-1][-1][0]
    last = shapes.get(f"stage{last_stage}.{len(STAGES[-1]) - 1}.3.weight")
    stem = shapes.get("stage1.0.0.weight", (0, 0, 3, 3))
    if last is None:
        raise RecognitionError(f"a MobileNetV1 whose last convolution (stage{last_stage}.1.3.weight) is missing")
    if stem[2:] not in _STEMS:
        raise RecognitionError(
            f"a MobileNetV1 with a stem of the shape {stem}; jaxdet has a 3x3 or a 2x2 convolution there"
        )
    # Every channel count divides the last one, so that this width gives all of them exactly.
    width = last[0] / last_channels
    options: dict[str, Any] = {"width": width, "norm": norm_config(shapes)}
    if _STEMS[stem[2:]] != "3x3s2":
        options["stem"] = _STEMS[stem[2:]]
    channels = {level: int(stage[-1][0] * width) for level, stage in zip(MobileNetV1.names, STAGES, strict=True)}
    classes = shapes["fc.weight"][0] if shapes.get("fc.weight") else None
    return RecognisedBackbone("mobilenet_v1", MobileNetV1Config, naming, classes, channels, options)


def _rules(source: str, target: str, naming: str) -> list[Rule]:
    rules = [
        *conv(source + "stage1.0.0", target + "stem.conv"),
        *norm(source + "stage1.0.1", target + "stem.norm"),
        *linear(source + "fc", target + "fc"),
    ]
    for stage, blocks in enumerate(STAGES, start=1):
        for block in range(len(blocks)):
            theirs = block + 1 if stage == 1 else block  # in the original the stem is part of the first stage
            old, new = f"{source}stage{stage}.{theirs}", f"{target}stage{stage}.{block}"
            rules += conv(f"{old}.0", f"{new}.depthwise.conv", transform=DEPTHWISE)
            rules += norm(f"{old}.1", f"{new}.depthwise.norm")
            rules += conv(f"{old}.3", f"{new}.pointwise.conv")
            rules += norm(f"{old}.4", f"{new}.pointwise.norm")
    return rules


def _live(layers: Sequence[tuple[str, Any]], model: str) -> dict[str, Any]:
    slope = leaky_slope(layers)
    if slope is not None:
        return {"negative_slope": slope}
    kinds = {type(layer).__name__.lower() for _, layer in layers} & {"relu", "relu6"}
    return {"activation": kinds.pop()} if len(kinds) == 1 else {}


def _describe(config: Any) -> str:
    return f"MobileNetV1 x{config.width:g} with a {config.stem[:3]} stem of stride {config.stem[-1]}"


MOBILENET_V1 = BackboneSource(
    config=MobileNetV1Config,
    namings={"retinaface": r"stage1\.\d+\.\d+\."},
    read=_read,
    rules=_rules,
    map_names={"retinaface": "{name}"},
    shaping=("width", "stem"),
    live=_live,
    describe=_describe,
)

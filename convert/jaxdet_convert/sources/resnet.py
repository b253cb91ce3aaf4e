"""ResNets with bottleneck blocks, with torchvision's names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jaxdet.backbones import ResNet, ResNetConfig
from jaxdet.backbones.presets import RESNET as PRESETS
from jaxdet.backbones.resnet import EXPANSION
from jaxdet_convert.rules import Rule
from jaxdet_convert.sources.base import (
    BackboneSource,
    RecognisedBackbone,
    RecognitionError,
    Shapes,
    UnsupportedModuleError,
)
from jaxdet_convert.sources.parts import conv, linear, norm, norm_config

_BLOCKS = {name: preset().blocks for name, preset in PRESETS.items()}


def _read(shapes: Shapes, naming: str) -> RecognisedBackbone:
    depth = [0, 0, 0, 0]
    for name in shapes:
        if found := re.match(r"layer([1-4])\.(\d+)\.", name):
            stage = int(found[1]) - 1
            depth[stage] = max(depth[stage], int(found[2]) + 1)
    blocks = (depth[0], depth[1], depth[2], depth[3])
    counts = ", ".join(map(str, blocks))
    if not any(name.endswith(".conv3.weight") for name in shapes):
        raise RecognitionError(
            f"a ResNet with basic blocks ({counts} per stage, as in ResNet-18 and 34); jaxdet has bottleneck ResNets: "
            f"{', '.join(_BLOCKS)}"
        )
    if 0 in blocks:
        raise RecognitionError(f"a ResNet with {counts} blocks per stage: a whole stage is missing")
    inner = shapes.get("layer1.0.conv2.weight", (64, 64, 3, 3))
    if inner[:2] != (64, 64):
        raise RecognitionError(
            f"a ResNeXt or wide ResNet (layer1.0.conv2.weight has the shape {inner}; a ResNet's is (64, 64, 3, 3))"
        )
    # Other depths are a ResNet-50 with the option `blocks`.
    name = next((name for name, known in _BLOCKS.items() if known == blocks), "resnet50")
    options: dict[str, Any] = {"norm": norm_config(shapes)}
    if blocks != _BLOCKS[name]:
        options["blocks"] = blocks
    channels = {level: 64 * 2**index * EXPANSION for index, level in enumerate(ResNet.names)}
    classes = shapes["fc.weight"][0] if shapes.get("fc.weight") else None
    return RecognisedBackbone(name, ResNetConfig, naming, classes, channels, options, {"blocks": blocks})


def _rules(source: str, target: str, naming: str) -> list[Rule]:
    block, ours = source + "layer{l}.{b}.", target + "layer{l}.{b}."
    return [
        *conv(source + "conv1", target + "conv1.conv"),
        *norm(source + "bn1", target + "conv1.norm"),
        *conv(block + "conv{c}", ours + "conv{c}.conv"),
        *norm(block + "bn{c}", ours + "conv{c}.norm"),
        *conv(block + "downsample.0", ours + "downsample.conv"),
        *norm(block + "downsample.1", ours + "downsample.norm"),
        *linear(source + "fc", target + "fc"),
    ]


def _live(layers: Sequence[tuple[str, Any]], model: str) -> dict[str, Any]:
    for path, layer in layers:
        stride = getattr(layer, "stride", 1)
        if path.endswith("layer2.0.conv1") and stride not in (1, (1, 1)):
            raise UnsupportedModuleError(f"{path} has the stride; torchvision's ResNets have it on conv2")
    return {}


def _describe(config: Any) -> str:
    names = {blocks: name.replace("resnet", "ResNet-") for name, blocks in _BLOCKS.items()}
    return names.get(config.blocks, f"ResNet of {config.blocks} blocks")


RESNET = BackboneSource(
    config=ResNetConfig,
    namings={"torchvision": r"layer1\.\d+\."},
    read=_read,
    rules=_rules,
    map_names={"torchvision": "{name}"},
    shaping=("blocks",),
    live=_live,
    describe=_describe,
    builders=tuple(_BLOCKS),
)

"""Which classifier some weights are of, from their names and shapes alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from jaxdet.backbones import ClassifierTransform, Darknet53, MobileNetV1, ResNet
from jaxdet.backbones.darknet import DARKNET_TRANSFORM, STEM_CHANNELS
from jaxdet.backbones.mobilenet_v1 import STAGES as MOBILENET_STAGES
from jaxdet.backbones.resnet import EXPANSION
from jaxdet.nn import NormConfig

Shapes = Mapping[str, tuple[int, ...]]

RESNETS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3), "resnet152": (3, 8, 36, 3)}
TIMM_TRANSFORM = ClassifierTransform(288, 256)  # timm cuts 256 out of 256 / 0.887, with ImageNet's mean and deviation
DARKNET_SLOPE, TORCH_SLOPE = 0.1, 0.01  # of LeakyReLU: Darknet's own, and PyTorch's default
DARKNET_MOMENTUM = 0.99
_STEMS: dict[tuple[int, ...], str] = {(3, 3): "3x3s2", (2, 2): "2x2s1"}


class RecognitionError(ValueError):
    """The names and shapes are of no model that is known here, or of another one than was said."""


@dataclass(frozen=True)
class Body:
    """A classifier, or what is left of one in a detector.

    Attributes:
        name: of the model.
        options: of its configuration that the weights tell, without ``num_classes``.
        source: whose names these are: "torchvision", "retinaface", "listing", "timm" or "darknet".
        num_classes: None where there is no classifier.
        channels: of the maps that a detector can stand on.
    """

    name: str
    source: str
    num_classes: int | None
    channels: Mapping[str, int]
    options: Mapping[str, Any] = field(default_factory=dict)


def recognise_body(shapes: Shapes) -> Body | None:
    """The classifier that these names are of; None where they are of no kind that is known.

    Raises:
        RecognitionError: the kind is known, and the variant is none that this library has.
    """
    return next((body(shapes) for kind, body in _KINDS.items() if any(kind.match(name) for name in shapes)), None)


def body_prefixes(names: Iterable[str]) -> set[str]:
    """What stands before names of known backbones; "" where nothing does. One backbone may give several, because some
    have parts that are named like another backbone's."""
    return {name[: found.start()] for name in names for kind in _KINDS for found in kind.finditer(name)}


def norm_config(names: Mapping[str, Any] | list[str], **options: Any) -> NormConfig:
    """Frozen norms have no counter of batches, trainable ones have."""
    counted = any(name.endswith(".num_batches_tracked") for name in names)
    return NormConfig("batch" if counted else "frozen", **options)


def _classes(shapes: Shapes, weight: str) -> int | None:
    return shapes[weight][0] if shapes.get(weight) else None


def _resnet(shapes: Shapes) -> Body:
    depth = [0, 0, 0, 0]
    for name in shapes:
        if found := re.match(r"layer([1-4])\.(\d+)\.", name):
            stage = int(found[1]) - 1
            depth[stage] = max(depth[stage], int(found[2]) + 1)
    blocks = (depth[0], depth[1], depth[2], depth[3])
    counts = ", ".join(map(str, blocks))
    if not any(name.endswith(".conv3.weight") for name in shapes):
        raise RecognitionError(
            f"a ResNet of basic blocks ({counts} a stage, as in ResNet-18 and 34), where this library has bottleneck "
            f"ResNets: {', '.join(RESNETS)}"
        )
    if 0 in blocks:
        raise RecognitionError(f"a ResNet with {counts} blocks a stage: a whole stage is missing")
    inner = shapes.get("layer1.0.conv2.weight", (64, 64, 3, 3))
    if inner[:2] != (64, 64):
        raise RecognitionError(
            f"a ResNeXt or wide ResNet (layer1.0.conv2.weight has the shape {inner}; a ResNet's is (64, 64, 3, 3))"
        )
    # Another depth is a ResNet, too: its blocks are an option.
    name = next((name for name, known in RESNETS.items() if known == blocks), "resnet50")
    options: dict[str, Any] = {"norm": norm_config(list(shapes))}
    if blocks != RESNETS[name]:
        options["blocks"] = blocks
    channels = {level: 64 * 2**index * EXPANSION for index, level in enumerate(ResNet.names)}
    return Body(name, "torchvision", _classes(shapes, "fc.weight"), channels, options)


def _mobilenet(shapes: Shapes) -> Body:
    last_stage, last_channels = len(MOBILENET_STAGES), MOBILENET_STAGES[-1][-1][0]
    last = shapes.get(f"stage{last_stage}.{len(MOBILENET_STAGES[-1]) - 1}.3.weight")
    stem = shapes.get("stage1.0.0.weight", (0, 0, 3, 3))
    if last is None:
        raise RecognitionError(f"a MobileNetV1 whose last convolution (stage{last_stage}.1.3.weight) is missing")
    if stem[2:] not in _STEMS:
        raise RecognitionError(f"a MobileNetV1 with a stem of the shape {stem}; a 3x3 or 2x2 convolution is known")
    # Every channel count divides the last one, so that this width gives them all, whatever was rounded down.
    width = last[0] / last_channels
    options: dict[str, Any] = {"width": width, "norm": norm_config(list(shapes))}
    if _STEMS[stem[2:]] != "3x3s2":
        options["stem"] = _STEMS[stem[2:]]
    channels = {
        level: int(stage[-1][0] * width) for level, stage in zip(MobileNetV1.names, MOBILENET_STAGES, strict=True)
    }
    return Body("mobilenet_v1", "retinaface", _classes(shapes, "fc.weight"), channels, options)


def _darknet(shapes: Shapes, source: str) -> Body:
    options = {
        "negative_slope": DARKNET_SLOPE if source == "darknet" else TORCH_SLOPE,
        "transform": TIMM_TRANSFORM if source == "timm" else DARKNET_TRANSFORM,
        # Darknet's own files have no counters, and their norms train.
        "norm": NormConfig(momentum=DARKNET_MOMENTUM) if source == "darknet" else norm_config(list(shapes)),
    }
    classes = _classes(shapes, "head.fc.weight" if source == "timm" else "fc.weight")
    channels = {level: STEM_CHANNELS * 2 ** (index + 1) for index, level in enumerate(Darknet53.names)}
    return Body("darknet53", source, classes, channels, options)


def _begins(pattern: str) -> re.Pattern[str]:
    """Matches where a component of a name begins."""
    return re.compile(rf"(?<![^.]){pattern}", re.ASCII)


# By which names a backbone is known.
_KINDS: dict[re.Pattern[str], Callable[[Shapes], Body]] = {
    _begins(r"layer1\.\d+\."): _resnet,
    _begins(r"stage1\.\d+\.\d+\."): _mobilenet,
    _begins(r"residual_block1\.\d+\."): partial(_darknet, source="listing"),
    _begins(r"stages\.0\.conv_down\."): partial(_darknet, source="timm"),
    _begins(r"stage1\.downsample\."): partial(_darknet, source="darknet"),
}

"""Darknet-53 with the names of a widespread PyTorch implementation (``"listing"``), of timm, and of Darknet's files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxdet.backbones import ClassifierTransform, Darknet53, Darknet53Config
from jaxdet.backbones.darknet import BLOCKS, DARKNET_TRANSFORM, STEM_CHANNELS
from jaxdet.nn import NormConfig
from jaxdet_convert.read.darknet_file import DarknetLayer
from jaxdet_convert.rules import Rule, Transform
from jaxdet_convert.sources.base import BackboneSource, RecognisedBackbone, RecognitionError, Shapes
from jaxdet_convert.sources.modules import leaky_slope
from jaxdet_convert.sources.parts import conv, linear, norm, norm_config

TIMM_TRANSFORM = ClassifierTransform(288, 256)  # timm's crop fraction is 0.887; ImageNet's mean and standard deviation
_DARKNET_SLOPE, _TORCH_SLOPE = 0.1, 0.01  # of LeakyReLU: Darknet's, and PyTorch's default
_DARKNET_MOMENTUM = 0.99
_ONE_BY_ONE = Transform("one_by_one", lambda a: a[:, :, 0, 0].T, lambda a: a.T[:, :, None, None])
"""[out, in, 1, 1] <-> [in, out]."""


def _read(shapes: Shapes, naming: str) -> RecognisedBackbone:
    options = {
        "negative_slope": _DARKNET_SLOPE if naming == "darknet" else _TORCH_SLOPE,
        "transform": TIMM_TRANSFORM if naming == "timm" else DARKNET_TRANSFORM,
        # Files of Darknet have no batch counters, but their norms are not frozen.
        "norm": NormConfig(momentum=_DARKNET_MOMENTUM) if naming == "darknet" else norm_config(shapes),
    }
    weight = shapes.get("head.fc.weight" if naming == "timm" else "fc.weight")
    channels = {level: STEM_CHANNELS * 2 ** (index + 1) for index, level in enumerate(Darknet53.names)}
    return RecognisedBackbone("darknet53", Darknet53Config, naming, weight[0] if weight else None, channels, options)


def _rules(source: str, target: str, naming: str) -> list[Rule]:
    if naming == "timm":
        part, bn, fc = ".conv", ".bn", "head.fc"
        stem, down, block, unit = "stem.conv1", "stages.{}.conv_down", "stages.{}.blocks.{}", "conv{}"
        first = 0
    elif naming == "listing":
        part, bn, fc = ".0", ".1", "fc"
        stem, down, block, unit = "conv1", "conv{}", "residual_block{}.{}", "layer{}"
        first = 1
    else:
        part, bn, fc = ".conv", ".bn", "fc"
        stem, down, block, unit = "stem", "stage{}.downsample", "stage{}.blocks.{}", "conv{}"
        first = 1
    rules = conv(f"{source}{stem}{part}", f"{target}stem.conv") + norm(f"{source}{stem}{bn}", f"{target}stem.norm")
    for stage, blocks in enumerate(BLOCKS):
        theirs, ours = stage + first, f"{target}stage{stage + 1}"
        convs = {down.format(theirs + (naming == "listing")): f"{ours}.downsample"}
        for index in range(blocks):
            for number in (1, 2):
                old = f"{block.format(theirs, index)}.{unit.format(number)}"
                convs[old] = f"{ours}.blocks.{index}.conv{number}"
        for old, new in convs.items():
            rules += conv(f"{source}{old}{part}", f"{new}.conv") + norm(f"{source}{old}{bn}", f"{new}.norm")
    if naming == "darknet":  # the classifier is a 1x1 convolution
        return [*rules, Rule("fc.weight", "fc.kernel", _ONE_BY_ONE), Rule("fc.bias", "fc.bias")]
    return rules + linear(source + fc, target + "fc")


def darknet53_layers(numbers: int) -> Sequence[DarknetLayer]:
    """The layers of a Darknet-53 file with this many numbers, for any number of classes.

    Raises:
        RecognitionError: no number of classes gives that many.
    """
    backbone = sum(layer.numbers for layer in _layers(1)[:-1])
    per_class = _layers(1)[-1].numbers
    classes, rest = divmod(numbers - backbone, per_class)
    if rest or classes < 0:
        raise RecognitionError(
            f"{numbers:,} numbers are not Darknet-53's, which has {backbone:,} and {per_class:,} more per class. "
            "For another network with this backbone, cut the file after its 52 convolutions"
        )
    return _layers(classes or 1)


def _layers(num_classes: int) -> list[DarknetLayer]:
    """The convolutions in the order of a ``.weights`` file, with the names of the naming ``"darknet"``."""
    layers = [DarknetLayer("stem", STEM_CHANNELS, 3, 3)]
    channels = STEM_CHANNELS
    for stage, blocks in enumerate(BLOCKS, start=1):
        layers.append(DarknetLayer(f"stage{stage}.downsample", 2 * channels, channels, 3))
        channels *= 2
        for index in range(blocks):
            name = f"stage{stage}.blocks.{index}.conv"
            layers.append(DarknetLayer(name + "1", channels // 2, channels, 1))
            layers.append(DarknetLayer(name + "2", channels, channels // 2, 3))
    return [*layers, DarknetLayer("fc", num_classes, channels, 1, batch_norm=False)]


def _live(layers: Sequence[tuple[str, Any]], model: str) -> dict[str, Any]:
    slope = leaky_slope(layers)
    return {} if slope is None else {"negative_slope": slope}


DARKNET53 = BackboneSource(
    config=Darknet53Config,
    namings={
        "listing": r"residual_block1\.\d+\.",
        "timm": r"stages\.0\.conv_down\.",
        "darknet": r"stage1\.downsample\.",
    },
    read=_read,
    rules=_rules,
    map_names={"listing": "residual_block{number}", "timm": "stages.{index}", "darknet": "{name}"},
    live=_live,
    numbers="darknet",
    layers=darknet53_layers,
)

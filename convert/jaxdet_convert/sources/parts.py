"""Parts that several families share: rules for layers and pyramids, and their recognition by names and shapes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxdet.models import FPNConfig, model_config
from jaxdet.nn import NormConfig
from jaxdet_convert.rules import CONV, COUNTER, IDENTITY, LINEAR, Rule, Spelling, Template, Transform
from jaxdet_convert.sources.base import RecognisedBackbone, RecognitionError, Shapes

BODY, FPN = "backbone.body.", "backbone.fpn."
LATERAL = "backbone.fpn.output{}.0.weight"  # of RetinaFace's pyramid
_SHOWN = 6  # number of tensors that a message lists

# torchvision before 0.13.
OLD_FPN = Spelling("backbone.fpn.{kind:inner_blocks|layer_blocks}.{i}.{p:weight|bias}", "backbone.fpn.{kind}.{i}.0.{p}")

# Detectors without heads, and RetinaFace.
BARE_SPELLINGS = (
    Spelling("fpn.{kind:inner_blocks|layer_blocks}.{i}.{p:weight|bias}", "backbone.fpn.{kind}.{i}.0.{p}"),
    Spelling("{part:body|fpn}.{x:path}", "backbone.{part}.{x}"),
    Spelling("ssh{i}.{x:path}", "backbone.ssh{i}.{x}"),
)


def norm(source: str, target: str) -> list[Rule]:
    """The rules for a norm. Group norms only have the first two parameters, frozen batch norms no counter."""
    return [
        Rule(f"{source}.weight", f"{target}.scale"),
        Rule(f"{source}.bias", f"{target}.bias"),
        Rule(f"{source}.running_mean", f"{target}.mean"),
        Rule(f"{source}.running_var", f"{target}.var"),
        Rule(f"{source}.num_batches_tracked", f"{target}.count", COUNTER),
    ]


def conv(source: str, target: str, *, transform: Transform = CONV, bias: bool = False) -> list[Rule]:
    """The rules for a convolution. ``bias``: whether it may have a bias."""
    rules = [Rule(f"{source}.weight", f"{target}.kernel", transform)]
    return [*rules, Rule(f"{source}.bias", f"{target}.bias", IDENTITY)] if bias else rules


def linear(source: str, target: str, transform: Transform = LINEAR) -> list[Rule]:
    """The rules for a fully connected layer with bias."""
    return [Rule(f"{source}.weight", f"{target}.kernel", transform), Rule(f"{source}.bias", f"{target}.bias")]


def fpn_rules(config: FPNConfig) -> list[Rule]:
    """The rules for a feature pyramid, including extra levels."""
    rules: list[Rule] = []
    if config.kind == "retinaface":
        for theirs, ours, count in (("output", "outputs", 3), ("merge", "merges", 2)):
            for index in range(count):
                rules += conv(f"{FPN}{theirs}{index + 1}.0", f"fpn.{ours}.{index}.conv")
                rules += norm(f"{FPN}{theirs}{index + 1}.1", f"fpn.{ours}.{index}.norm")
        return rules
    for kind in ("inner_blocks", "layer_blocks"):
        rules += conv(f"{FPN}{kind}.{{i}}.0", f"fpn.{kind}.{{i}}.conv", bias=True)
        rules += norm(f"{FPN}{kind}.{{i}}.1", f"fpn.{kind}.{{i}}.norm")
    if config.p6p7 is not None:
        rules += conv(f"{FPN}extra_blocks.{{p:p6|p7}}", "fpn.extra_blocks.{p}.conv", bias=True)
    return rules


def has_old_fpn(config: FPNConfig) -> bool:
    """Whether the pyramid can be written in the old spelling. RetinaFace's has the same names in both."""
    return config.norm is None or config.kind == "retinaface"


def norm_config(names: Iterable[str], **options: Any) -> NormConfig:
    """The norm with these names: frozen batch norms have no batch counter, group norms no statistics."""
    parts = {name.rpartition(".")[2] for name in names}
    if "running_var" not in parts and "num_batches_tracked" not in parts:
        return NormConfig("group", **options)
    return NormConfig("batch" if "num_batches_tracked" in parts else "frozen", **options)


@dataclass(frozen=True)
class Pyramid:
    """The options of a pyramid that names and shapes determine.

    Attributes:
        levels: the feature maps of the backbone that enter it; None if a convolution is missing.
        width: its number of channels.
        names: the names of its norms.
        p6p7: see `jaxdet.models.FPNConfig`.
    """

    levels: tuple[str, ...] | None
    width: int | None
    names: tuple[str, ...]
    p6p7: str | None

    def options(self) -> dict[str, Any]:
        """The options of a detector with torchvision's pyramid."""
        options: dict[str, Any] = {} if self.width is None else {"fpn_out_channels": self.width}
        if self.levels is not None:
            options["fpn_levels"] = self.levels
        options["fpn_norm"] = norm_config(self.names) if self.names else None
        if self.p6p7 is not None:
            options |= {"fpn_pool": False, "fpn_p6p7": self.p6p7}
        return options


def read_pyramid(shapes: Shapes, backbone: RecognisedBackbone) -> Pyramid:
    """Recognises a pyramid with torchvision's or RetinaFace's names.

    Raises:
        RecognitionError: its input channels are not those of the backbone's maps.
    """
    laterals = numbered(shapes, rf"{re.escape(FPN)}inner_blocks\.(\d+)\.0\.weight")
    outputs = numbered(shapes, rf"{re.escape(FPN)}layer_blocks\.(\d+)\.0\.weight")
    if LATERAL.format(1) in shapes:
        laterals = outputs = [shapes[name] for number in (1, 2, 3) if (name := LATERAL.format(number)) in shapes]
    levels = _levels(backbone, [shape[1] for shape in laterals]) if len(laterals) == len(outputs) else None
    names = tuple(name for name in shapes if re.match(rf"{re.escape(FPN)}\w+\.\d+\.1\.", name))
    width = outputs[0][0] if outputs else None
    p6 = shapes.get(f"{FPN}extra_blocks.p6.weight")
    # torchvision computes P6 from P5 if that has the same number of channels.
    p6p7 = None if p6 is None else "p5" if p6[0] == p6[1] else "c5"
    return Pyramid(levels, width, names, p6p7)


def _levels(backbone: RecognisedBackbone, channels: list[int]) -> tuple[str, ...]:
    """The feature maps that enter the pyramid, by the input channels of its lateral convolutions."""
    levels = [level for level, width in backbone.channels.items() if width in channels]
    if [backbone.channels[level] for level in levels] != channels:
        known = ", ".join(f"{level} {width}" for level, width in backbone.channels.items())
        raise RecognitionError(f"the pyramid's laterals take {channels} channels, but the {backbone.name} has {known}")
    return tuple(levels)


def is_bare(shapes: Shapes, beside: Iterable[str] = ()) -> bool:
    """Whether there are only a backbone with a pyramid, and names that match the templates ``beside``."""
    heads = [Template(text) for text in beside]
    others = [name for name in shapes if not name.startswith("backbone.")]
    known = all(any(head.match(name) for head in heads) for name in others)
    return known and any(name.startswith(FPN) for name in shapes)


def backbone_options(backbone: RecognisedBackbone, model: str) -> dict[str, Any]:
    """The options of a detector that its backbone determines. ``model``: the detector's name."""
    preset: Any = model_config(model).backbone_config
    named = {key: value for key, value in backbone.named.items() if getattr(preset, key) != value}
    options = {f"backbone_{key}": value for key, value in {**backbone.options, **named}.items()}
    if backbone.num_classes is not None:
        options["backbone_num_classes"] = backbone.num_classes
    if "transform" in backbone.options:
        transform = backbone.options["transform"]
        options |= {"image_mean": transform.image_mean, "image_std": transform.image_std}
    return options


def numbered(shapes: Shapes, pattern: str) -> list[tuple[int, ...]]:
    """The shapes of the names that match a pattern with one number, ordered by this number."""
    found = {int(match[1]): shape for name, shape in shapes.items() if (match := re.fullmatch(pattern, name))}
    return [found[number] for number in sorted(found)]


def seen(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The weights as text for messages: their number, and the first ones."""
    shown = ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:_SHOWN])
    return f"{len(shapes)} tensors ({shown}{', ...' if len(shapes) > _SHOWN else ''})"

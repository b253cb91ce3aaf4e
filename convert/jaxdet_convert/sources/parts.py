"""Parts that several families share: the rules of layers and pyramids, and what names and shapes tell of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxdet.models import FPNConfig, model_config
from jaxdet.nn import NormConfig
from jaxdet_convert.rules import CONV, COUNTER, IDENTITY, LINEAR, Rule, Spelling, Template, Transform
from jaxdet_convert.sources.base import Body, RecognitionError, Shapes

BODY, FPN = "backbone.body.", "backbone.fpn."
LATERAL = "backbone.fpn.output{}.0.weight"  # of RetinaFace's pyramid
_SHOWN = 6  # names in an error message

# Of torchvision before 0.13.
OLD_FPN = Spelling("backbone.fpn.{kind:inner_blocks|layer_blocks}.{i}.{p:weight|bias}", "backbone.fpn.{kind}.{i}.0.{p}")

# A detector's backbone alone, and RetinaFace's whole model.
BARE_SPELLINGS = (
    Spelling("fpn.{kind:inner_blocks|layer_blocks}.{i}.{p:weight|bias}", "backbone.fpn.{kind}.{i}.0.{p}"),
    Spelling("{part:body|fpn}.{x:path}", "backbone.{part}.{x}"),
    Spelling("ssh{i}.{x:path}", "backbone.ssh{i}.{x}"),
)


def norm(source: str, target: str) -> list[Rule]:
    """A norm: group norms have the first two alone, and frozen batch norms no counter."""
    return [
        Rule(f"{source}.weight", f"{target}.scale"),
        Rule(f"{source}.bias", f"{target}.bias"),
        Rule(f"{source}.running_mean", f"{target}.mean"),
        Rule(f"{source}.running_var", f"{target}.var"),
        Rule(f"{source}.num_batches_tracked", f"{target}.count", COUNTER),
    ]


def conv(source: str, target: str, *, transform: Transform = CONV, bias: bool = False) -> list[Rule]:
    """A convolution; with ``bias`` where one may be there."""
    rules = [Rule(f"{source}.weight", f"{target}.kernel", transform)]
    return [*rules, Rule(f"{source}.bias", f"{target}.bias", IDENTITY)] if bias else rules


def linear(source: str, target: str, transform: Transform = LINEAR) -> list[Rule]:
    """A fully connected layer with its bias."""
    return [Rule(f"{source}.weight", f"{target}.kernel", transform), Rule(f"{source}.bias", f"{target}.bias")]


def fpn_rules(config: FPNConfig) -> list[Rule]:
    """Any pyramid, with its further levels."""
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
    """Whether a pyramid had other names before; RetinaFace's is spelt in one way, so that it does not hinder."""
    return config.norm is None or config.kind == "retinaface"


def norm_config(names: Iterable[str], **options: Any) -> NormConfig:
    """The norm with these names: frozen batch norms have no counter of batches, group norms no statistics at all."""
    parts = {name.rpartition(".")[2] for name in names}
    if "running_var" not in parts and "num_batches_tracked" not in parts:
        return NormConfig("group", **options)
    return NormConfig("batch" if "num_batches_tracked" in parts else "frozen", **options)


@dataclass(frozen=True)
class Pyramid:
    """What names and shapes tell of a pyramid.

    Attributes:
        levels: the backbone's maps that it stands on; None where a convolution is missing.
        width: its channels.
        names: of its norms.
        p6p7: as `jaxdet.models.FPNConfig` has it.
    """

    levels: tuple[str, ...] | None
    width: int | None
    names: tuple[str, ...]
    p6p7: str | None

    def options(self) -> dict[str, Any]:
        """As options of a detector with torchvision's pyramid."""
        options: dict[str, Any] = {} if self.width is None else {"fpn_out_channels": self.width}
        if self.levels is not None:
            options["fpn_levels"] = self.levels
        options["fpn_norm"] = norm_config(self.names) if self.names else None
        if self.p6p7 is not None:
            options |= {"fpn_pool": False, "fpn_p6p7": self.p6p7}
        return options


def read_pyramid(shapes: Shapes, body: Body) -> Pyramid:
    """The pyramid under torchvision's names or RetinaFace's.

    Raises:
        RecognitionError: its convolutions take other channels than the backbone's maps have.
    """
    laterals = numbered(shapes, rf"{re.escape(FPN)}inner_blocks\.(\d+)\.0\.weight")
    outputs = numbered(shapes, rf"{re.escape(FPN)}layer_blocks\.(\d+)\.0\.weight")
    if LATERAL.format(1) in shapes:
        laterals = outputs = [shapes[name] for number in (1, 2, 3) if (name := LATERAL.format(number)) in shapes]
    levels = _levels(body, [shape[1] for shape in laterals]) if len(laterals) == len(outputs) else None
    names = tuple(name for name in shapes if re.match(rf"{re.escape(FPN)}\w+\.\d+\.1\.", name))
    width = outputs[0][0] if outputs else None
    p6 = shapes.get(f"{FPN}extra_blocks.p6.weight")
    # torchvision computes it from P5 where that has as many channels as the result.
    p6p7 = None if p6 is None else "p5" if p6[0] == p6[1] else "c5"
    return Pyramid(levels, width, names, p6p7)


def _levels(body: Body, channels: list[int]) -> tuple[str, ...]:
    """The maps that the pyramid stands on: those of its laterals' channels, which grow from map to map."""
    levels = [level for level, width in body.channels.items() if width in channels]
    if [body.channels[level] for level in levels] != channels:
        known = ", ".join(f"{level} {width}" for level, width in body.channels.items())
        raise RecognitionError(f"the pyramid's laterals take {channels} channels, where the {body.name} has {known}")
    return tuple(levels)


def is_bare(shapes: Shapes, beside: Iterable[str] = ()) -> bool:
    """Whether there are a backbone and a pyramid, and none but these templates' names beside ``backbone.``."""
    heads = [Template(text) for text in beside]
    others = [name for name in shapes if not name.startswith("backbone.")]
    known = all(any(head.match(name) for head in heads) for name in others)
    return known and any(name.startswith(FPN) for name in shapes)


def backbone_options(body: Body, model: str) -> dict[str, Any]:
    """Options of a detector that its backbone tells; ``model``: the detector's name."""
    preset: Any = model_config(model).backbone_config
    named = {key: value for key, value in body.named.items() if getattr(preset, key) != value}
    options = {f"backbone_{key}": value for key, value in {**body.options, **named}.items()}
    if body.num_classes is not None:
        options["backbone_num_classes"] = body.num_classes
    if "transform" in body.options:
        transform = body.options["transform"]
        options |= {"image_mean": transform.image_mean, "image_std": transform.image_std}
    return options


def numbered(shapes: Shapes, pattern: str) -> list[tuple[int, ...]]:
    """The shapes of names with one number, by it."""
    found = {int(match[1]): shape for name, shape in shapes.items() if (match := re.fullmatch(pattern, name))}
    return [found[number] for number in sorted(found)]


def seen(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The weights in a message: how many there are, and the first of them."""
    shown = ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:_SHOWN])
    return f"{len(shapes)} tensors ({shown}{', ...' if len(shapes) > _SHOWN else ''})"

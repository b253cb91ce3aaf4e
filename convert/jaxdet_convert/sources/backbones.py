"""The backbones: which of them some weights are of, their tables, and each as a family of classifiers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from jaxdet.backbones.base import BackboneConfig
from jaxdet_convert.parity import classifier
from jaxdet_convert.parity.calibration import calibrate_classifier
from jaxdet_convert.read.darknet_file import DarknetLayer
from jaxdet_convert.rules import Rule, Table
from jaxdet_convert.sources.base import (
    BackboneSource,
    Body,
    Parity,
    Recognised,
    RecognitionError,
    Shapes,
    Source,
)
from jaxdet_convert.sources.darknet import DARKNET53
from jaxdet_convert.sources.mobilenet_v1 import MOBILENET_V1
from jaxdet_convert.sources.parts import BODY
from jaxdet_convert.sources.resnet import RESNET

BACKBONES: tuple[BackboneSource, ...] = (RESNET, MOBILENET_V1, DARKNET53)


def backbone_of(config: BackboneConfig | type[BackboneConfig]) -> BackboneSource:
    """The source of a backbone.

    Raises:
        ValueError: there is none.
    """
    kind = config if isinstance(config, type) else type(config)
    for source in BACKBONES:
        if source.config is kind:
            return source
    raise ValueError(f"no table for a backbone of type {kind.__name__}")


def read_backbone(shapes: Shapes) -> Body | None:
    """The backbone that these names, without a prefix, are of; None where they are of none that is known.

    Raises:
        RecognitionError: the kind is known, and the variant is none that this library has.
    """
    for source in BACKBONES:
        naming = source.naming_of(shapes)
        if naming is not None:
            try:
                return source.read(shapes, naming)
            except RecognitionError as error:
                raise RecognitionError(f"these weights are of {error}") from None
    return None


def read_body(shapes: Shapes) -> Body | None:
    """The backbone of a detector of torchvision's layout; see `read_backbone`."""
    inner = inside(shapes)
    return read_backbone(inner) if inner else None


def inside(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a detector's backbone, without their prefix."""
    return {key.removeprefix(BODY): shape for key, shape in shapes.items() if key.startswith(BODY)}


def body_prefixes(names: Iterable[str]) -> set[str]:
    """What stands before names of known backbones; "" where nothing does. One backbone may give several, because some
    have parts that are named like another backbone's."""
    begins = [text for source in BACKBONES for text in source.namings.values()]
    marks = [re.compile(rf"(?<![^.]){text}", re.ASCII) for text in begins]  # where a component begins
    return {name[: found.start()] for name in names for mark in marks for found in mark.finditer(name)}


def body_rules(config: Any, origin: Sequence[str]) -> list[Rule]:
    """The rules of a detector's backbone."""
    source = backbone_of(config)
    return source.rules(BODY, "backbone.", source.chosen_naming(origin))


def body_origin(body: Body) -> tuple[str, ...]:
    """What a detector's origin says of its backbone: whose names it has, where there is a choice."""
    return (body.naming,) if len(backbone_of(body.config).namings) > 1 else ()


def layers_of_numbers(numbers: int) -> Sequence[DarknetLayer]:
    """The layers of a file that holds so many numbers and no names.

    Raises:
        RecognitionError: it is of no network that is known.
    """
    problems = []
    for source in BACKBONES:
        if source.layers is not None:
            try:
                return source.layers(numbers)
            except RecognitionError as error:
                problems.append(str(error))
    raise RecognitionError("; ".join(problems))


def _classifier(backbone: BackboneSource) -> Source:
    def recognise(shapes: Shapes, spelling: str) -> Recognised:
        body = read_backbone(shapes)
        assert body is not None
        return Recognised(body.name, {**body.options, "num_classes": body.num_classes}, (body.naming,))

    def table(config: Any, origin: Sequence[str]) -> Table:
        return Table(tuple(backbone.rules("", "", backbone.chosen_naming(origin))))

    return Source(
        config=backbone.config,
        claims=lambda shapes: backbone.naming_of(shapes) is not None,
        recognise=recognise,
        table=table,
        norms={"": "norm"},
        assumed=lambda config: dict.fromkeys(("transform", "names")),
        predictor=("fc.{p:name}", "head.fc.{p:name}"),
        parity=Parity(
            compare=partial(classifier.compare, map_names=tuple(backbone.map_names.values())),
            notes=classifier.notes,
            builders=backbone.builders,
            calibrate=calibrate_classifier,
        ),
    )


CLASSIFIERS: tuple[Source, ...] = tuple(_classifier(source) for source in BACKBONES)

"""Backbones: their recognition, their tables, and the classifiers that they are."""

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
    Parity,
    Recognised,
    RecognisedBackbone,
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
        ValueError: the backbone is unknown.
    """
    kind = config if isinstance(config, type) else type(config)
    for source in BACKBONES:
        if source.config is kind:
            return source
    raise ValueError(f"no table for a backbone of type {kind.__name__}")


def read_backbone(shapes: Shapes) -> RecognisedBackbone | None:
    """Recognises a backbone by its names, which have no prefix; None if it is unknown.

    Raises:
        RecognitionError: jaxdet does not have this variant of a known backbone.
    """
    for source in BACKBONES:
        naming = source.naming_of(shapes)
        if naming is not None:
            try:
                return source.read(shapes, naming)
            except RecognitionError as error:
                raise RecognitionError(f"these weights are of {error}") from None
    return None


def read_detector_backbone(shapes: Shapes) -> RecognisedBackbone | None:
    """Recognises the backbone of a detector with torchvision's names; see `read_backbone`."""
    inner = inside(shapes)
    return read_backbone(inner) if inner else None


def inside(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Names (without prefix) and shapes of a detector's backbone."""
    return {key.removeprefix(BODY): shape for key, shape in shapes.items() if key.startswith(BODY)}


def backbone_prefixes(names: Iterable[str]) -> set[str]:
    """The prefixes of names of known backbones; "" if there is none.

    One backbone may give several prefixes, as some have parts with the names of another backbone.
    """
    patterns = [text for source in BACKBONES for text in source.namings.values()]
    starts = [re.compile(rf"(?<![^.]){text}", re.ASCII) for text in patterns]  # only at the start of a component
    return {name[: found.start()] for name in names for start in starts for found in start.finditer(name)}


def backbone_rules(config: Any, origin: Sequence[str]) -> list[Rule]:
    """The rules of a detector's backbone."""
    source = backbone_of(config)
    return source.rules(BODY, "backbone.", source.chosen_naming(origin))


def backbone_origin(backbone: RecognisedBackbone) -> tuple[str, ...]:
    """The backbone's part of a detector's origin: the naming, if the backbone has several."""
    return (backbone.naming,) if len(backbone_of(backbone.config).namings) > 1 else ()


def layers_of_numbers(numbers: int) -> Sequence[DarknetLayer]:
    """The layers of a Darknet file with this many numbers.

    Raises:
        RecognitionError: no known network has this many.
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
        found = read_backbone(shapes)
        assert found is not None
        return Recognised(found.name, {**found.options, "num_classes": found.num_classes}, (found.naming,))

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

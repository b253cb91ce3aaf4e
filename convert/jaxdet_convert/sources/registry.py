"""The registry of all sources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxdet.models import FAMILIES
from jaxdet_convert.rules import Table
from jaxdet_convert.sources.backbones import CLASSIFIERS
from jaxdet_convert.sources.base import Source
from jaxdet_convert.sources.faster_rcnn import FASTER_RCNN
from jaxdet_convert.sources.fcos import FCOS
from jaxdet_convert.sources.headhunter import HEADHUNTER
from jaxdet_convert.sources.retinanet import RETINANET

# The first source that claims weights is used, so that special ones come first.
SOURCES: tuple[Source, ...] = (FCOS, RETINANET, HEADHUNTER, FASTER_RCNN, *CLASSIFIERS)


def source_of(config: Any) -> Source:
    """The source for a model's configuration.

    Raises:
        ValueError: there is none.
    """
    kind = type(config)
    for source in SOURCES:
        if source.config is kind:
            return source
    raise ValueError(f"no table for a model of type {kind.__name__.removesuffix('Config')}")


def source_named(name: str) -> Source:
    """The source for a named model (`jaxdet.list_models`).

    Raises:
        ValueError: the model is unknown, or has no source.
    """
    for family in FAMILIES:
        for source in SOURCES:
            if name in family.presets and source.config is family.config:
                return source
    raise ValueError(f"no source of {name!r}")


def model_table(config: Any, origin: Sequence[str] = ()) -> Table:
    """The conversion table of a model, with the names of its origin."""
    return source_of(config).table(config, origin)

"""Every source, a row each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxdet.models import FAMILIES
from jaxdet_convert.rules import Table
from jaxdet_convert.sources.backbones import CLASSIFIERS
from jaxdet_convert.sources.base import Source
from jaxdet_convert.sources.faster_rcnn import FASTER_RCNN
from jaxdet_convert.sources.headhunter import HEADHUNTER
from jaxdet_convert.sources.retinanet import RETINANET

# The first that claims some weights has them, so what is more special stands first.
SOURCES: tuple[Source, ...] = (RETINANET, HEADHUNTER, FASTER_RCNN, *CLASSIFIERS)


def source_of(config: Any) -> Source:
    """The source of a model with this configuration.

    Raises:
        ValueError: there is none.
    """
    kind = type(config)
    for source in SOURCES:
        if source.config is kind:
            return source
    raise ValueError(f"no table for a model of type {kind.__name__.removesuffix('Config')}")


def source_named(name: str) -> Source:
    """The source of a named model (`jaxdet.list_models`).

    Raises:
        ValueError: there is no such model, or no source of it.
    """
    for family in FAMILIES:
        for source in SOURCES:
            if name in family.presets and source.config is family.config:
                return source
    raise ValueError(f"no source of {name!r}")


def model_table(config: Any, origin: Sequence[str] = ()) -> Table:
    """The table of any model, under the names that its origin says."""
    return source_of(config).table(config, origin)

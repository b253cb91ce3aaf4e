"""Checks that a model's parameters have the names and shapes of its configuration."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from jaxdet.base import Model, ModelConfig
from jaxdet.models.registry import abstract
from jaxdet.nn import Numerics
from jaxdet.nn.parameters import shapes

Shapes = dict[str, tuple[int, ...]]
_SHOWN = 5  # number of parameters that a message lists


def wanted_shapes(config: ModelConfig, model: Model) -> Shapes:
    """The shapes that a model's parameters have according to its configuration."""
    if config.needs_backbone:
        return shapes(abstract(config, numerics=model.numerics, backbone=getattr(model, "backbone", None)))
    return _shapes_of(config, model.numerics)


@lru_cache(maxsize=32)
def _shapes_of(config: ModelConfig, numerics: Numerics) -> Shapes:
    return shapes(abstract(config, numerics=numerics))


def unlike(found: Shapes, wanted: Shapes, *, of: str = "the model", by: str = "its configuration") -> str | None:
    """Describes how two sets of shapes differ; None if they are equal. ``of`` and ``by`` name the two in the text."""
    differing = [
        f"{path} is {_shape(found.get(path))} in {of} and {_shape(wanted.get(path))} by {by}"
        for path in [*wanted, *(path for path in found if path not in wanted)]
        if found.get(path) != wanted.get(path)
    ]
    if not differing:
        return None
    more = len(differing) - _SHOWN
    return "; ".join(differing[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def check_fit(model: Any) -> None:
    """Refuses a model whose parameters do not fit its configuration.

    Raises:
        ValueError: names or shapes differ; the message lists them.
    """
    difference = unlike(shapes(model), wanted_shapes(model.config, model))
    if difference is not None:
        raise ValueError(
            f"the model does not fit its configuration: {difference}. Change classes with jaxdet.with_classes, and "
            "other parts with options of jaxdet.create_model: both change the configuration too"
        )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else "x".join(map(str, shape)) or "scalar"

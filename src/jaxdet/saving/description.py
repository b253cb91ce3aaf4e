"""The JSON description of a model: ``model.json`` in a model's folder, ``m.json`` beside ``m.pth``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from jaxdet.base import Model, ModelConfig
from jaxdet.config import from_dict, to_dict
from jaxdet.models.registry import CONFIG_TYPES
from jaxdet.nn import Numerics
from jaxdet.paths import parse_json
from jaxdet.saving.earlier import upgraded_model
from jaxdet.typed import shortened

FORMAT = 1
_KEYS = ("format", "config", "numerics", "origin")


@dataclass(frozen=True)
class Description:
    """Everything of a model except its arrays.

    origin: the naming scheme that the weights were converted from, for the conversion back to PyTorch.
    """

    config: ModelConfig
    numerics: Numerics
    origin: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: Model) -> Description:
        """The description of a model."""
        return cls(model.config, model.numerics, tuple(getattr(model, "origin", ())))

    def values(self) -> dict[str, Any]:
        """JSON values, the inverse of `from_values`."""
        return {
            "format": FORMAT,
            "config": to_dict(self.config),
            "numerics": to_dict(self.numerics),
            "origin": list(self.origin),
        }

    def json(self) -> str:
        """JSON text, the inverse of `parse`."""
        return json.dumps(self.values(), indent=1)


def parse(text: str | bytes) -> Description:
    """Reads the text of `Description.json`.

    Raises:
        ValueError: it is not a description, or of another version. The message continues a sentence about the file.
    """
    try:
        given = parse_json(text)
    except ValueError as error:  # also for bytes that are not text
        raise ValueError(f"it is not JSON ({error})") from None
    return from_values(given)


def from_values(given: Any) -> Description:
    """The inverse of `Description.values`.

    Raises:
        ValueError: see `parse`.
    """
    if not isinstance(given, dict) or not {"format", "config"} <= given.keys():
        raise ValueError("it does not describe a jaxdet model")
    if given["format"] != FORMAT or isinstance(given["format"], bool):
        raise ValueError(f"its format is {shortened(given['format'])}, but this version of jaxdet reads {FORMAT}")
    for fault, keys in (
        ("does not have the keys", set(_KEYS) - given.keys()),
        ("has unknown keys:", given.keys() - set(_KEYS)),
    ):
        if keys:
            raise ValueError(f"it {fault} {', '.join(map(shortened, sorted(keys)))}")
    try:
        config = from_dict(upgraded_model(given["config"]), CONFIG_TYPES)
        numerics = from_dict(given["numerics"], CONFIG_TYPES)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None
    origin = given["origin"]
    if not isinstance(config, ModelConfig):
        raise ValueError(f"its config is not a model's: {shortened(given['config'])}")
    if not isinstance(numerics, Numerics):
        raise ValueError(f"its numerics are not a model's: {shortened(given['numerics'])}")
    if not isinstance(origin, list) or not all(isinstance(tag, str) for tag in origin):
        raise ValueError(f"its origin is {shortened(origin)}, not a list of names")
    return Description(config, numerics, tuple(origin))

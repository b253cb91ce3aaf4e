"""What a model is beside its arrays, as JSON: ``model.json`` of a model's folder, ``m.json`` beside ``m.pth``."""

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
    """origin: whose names the model's weights came under, for the way back to PyTorch."""

    config: ModelConfig
    numerics: Numerics
    origin: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: Model) -> Description:
        """That of a model."""
        return cls(model.config, model.numerics, tuple(getattr(model, "origin", ())))

    def values(self) -> dict[str, Any]:
        """As JSON values, which `from_values` takes."""
        return {
            "format": FORMAT,
            "config": to_dict(self.config),
            "numerics": to_dict(self.numerics),
            "origin": list(self.origin),
        }

    def json(self) -> str:
        """The text that `parse` reads."""
        return json.dumps(self.values(), indent=1)


def parse(text: str | bytes) -> Description:
    """Reads what `Description.json` writes.

    Raises:
        ValueError: it is something else, or of another version; in words that follow a file's name.
    """
    try:
        given = parse_json(text)
    except ValueError as error:  # also of bytes that are no text
        raise ValueError(f"it is no JSON ({error})") from None
    return from_values(given)


def from_values(given: Any) -> Description:
    """The inverse of `Description.values`.

    Raises:
        ValueError: as `parse`.
    """
    if not isinstance(given, dict) or not {"format", "config"} <= given.keys():
        raise ValueError("it does not describe a jaxdet model")
    if given["format"] != FORMAT or isinstance(given["format"], bool):
        raise ValueError(f"its format is {shortened(given['format'])}, and this version of jaxdet reads {FORMAT}")
    for fault, keys in (
        ("lacks the keys", set(_KEYS) - given.keys()),
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
        raise ValueError(f"its origin is {shortened(origin)}, and not a list of names")
    return Description(config, numerics, tuple(origin))

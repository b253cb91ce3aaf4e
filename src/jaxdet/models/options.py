"""Options of model configurations, including those of a detector's backbone."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from jaxdet.config import option_names, override, unknown_option
from jaxdet.heads import AnchorGenerator

AnyConfig = TypeVar("AnyConfig")
_BACKBONE = "backbone_"


def model_options(config: Any) -> dict[str, tuple[str, ...]]:
    """Every option of a model's configuration and the path of its field. A backbone's begin with ``backbone_``."""
    names = option_names(config)
    backbone = getattr(config, "backbone", None)
    if backbone is not None:
        names |= {_BACKBONE + name: ("backbone", *path) for name, path in option_names(backbone).items()}
    return names


def override_model(config: AnyConfig, options: Mapping[str, Any], *, also: Collection[str] = ()) -> AnyConfig:
    """The configuration with some options changed.

    Args:
        also: additional names that the error for an unknown option may suggest.

    Raises:
        ValueError: an unknown option, or a value of the wrong type. The message suggests similar names.
    """
    known = model_options(config)
    for name in options:
        if name not in known:
            raise unknown_option(name, {*known, *also}, "jaxdet.models.options.model_options(config)")
    inner = {name: value for name, value in options.items() if len(known[name]) > 1 and known[name][0] == "backbone"}
    if inner:
        own = {name.removeprefix(_BACKBONE): value for name, value in inner.items()}
        changed: Any = config
        config = replace(changed, backbone=override(changed.backbone, own))
    return override(config, {name: value for name, value in options.items() if name not in inner})


def value_at(config: Any, path: tuple[str, ...]) -> Any:
    """The value of the field at a path."""
    for part in path:
        config = getattr(config, part)
    return config


def differences(before: Any, after: Any) -> list[tuple[str, Any, Any]]:
    """(option, old value, new value) for every option that both configurations have and that differs."""
    common = model_options(after)
    names = {name: path for name, path in model_options(before).items() if name in common}
    backbones = [getattr(config, "backbone", None) for config in (before, after)]
    if "backbone" in names and type(backbones[0]) is type(backbones[1]):
        names.pop("backbone")  # compared option by option
        for option in ("num_classes", "names", "transform"):  # unused in a detector's backbone
            names.pop(_BACKBONE + option, None)
    found = ((name, value_at(before, path), value_at(after, path)) for name, path in names.items())
    return [(name, old, new) for name, old, new in found if old != new]


def changes(before: Any, after: Any) -> list[str]:
    """A line such as ``anchors: 4, 8 -> 24, 48`` for every option that differs between two configurations."""
    return [f"{label(name)}: {' -> '.join(show_both(*values))}" for name, *values in differences(before, after)]


def label(option: str) -> str:
    """The name of an option in messages."""
    return "anchors" if option.endswith("anchor_generator") else option


def show(value: Any) -> str:
    """The value of an option as text for messages: ``0.485, 0.456, 0.406``; anchors level by level."""
    if value is None or value == ():
        return "none"
    if isinstance(value, AnchorGenerator):
        return _anchors(value)
    if dataclasses.is_dataclass(value):
        fields = [f"{field.name} {show(getattr(value, field.name))}" for field in dataclasses.fields(value)]
        return f"{type(value).__name__.removesuffix('Config')}({', '.join(fields)})"
    if isinstance(value, (tuple, list)):
        return ", ".join(show(item) for item in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def show_both(one: Any, other: Any) -> tuple[str, str]:
    """Two values of an option as text. For dataclasses such as norms, only the fields that differ."""
    if type(one) is not type(other) or not dataclasses.is_dataclass(one) or isinstance(one, AnchorGenerator):
        return show(one), show(other)
    differing = [
        field.name for field in dataclasses.fields(one) if getattr(one, field.name) != getattr(other, field.name)
    ]
    first, second = (", ".join(f"{name} {show(getattr(each, name))}" for name in differing) for each in (one, other))
    return first, second


def _anchors(generator: AnchorGenerator) -> str:
    sizes, ratios = (_levels(each) for each in (generator.sizes, generator.aspect_ratios))
    return sizes if ratios == "1" else f"{sizes} with ratios {ratios}"


def _levels(levels: Any) -> str:
    shown = [show(level) for level in levels]
    if len(set(shown)) == 1:
        return shown[0]
    return (", " if all(len(level) == 1 for level in levels) else " / ").join(shown)

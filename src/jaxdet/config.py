"""Frozen configurations: overriding options by name, and conversion to and from JSON values."""

from __future__ import annotations

import dataclasses
import difflib
import reprlib
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from jaxdet.typed import check_field, describe, field_types, fits, shortened

Config = TypeVar("Config")

_NEAREST, _LISTED = 3, 12  # in error messages: the number of similar names, and the longest complete list


def option_names(config: Any) -> dict[str, tuple[str, ...]]:
    """The options of a configuration, each with the path of the field that it sets.

    A field with a child configuration may have ``metadata={"options": prefix}``: the child's fields are then options of
    the parent, named ``prefix + name`` (``rpn_nms_thresh`` sets ``config.rpn.nms_thresh``; the transform's prefix is
    empty). Without this metadata, the child is a single option. ``metadata={"option": name}`` gives the option of a
    field another name.
    """
    names: dict[str, tuple[str, ...]] = {}
    for field in dataclasses.fields(config):
        prefix = field.metadata.get("options")
        child = getattr(config, field.name)
        if prefix is None or not dataclasses.is_dataclass(child):
            names[field.metadata.get("option", field.name)] = (field.name,)
            continue
        absolute = {f.metadata["option"] for f in dataclasses.fields(child) if "option" in f.metadata}
        for name, path in option_names(child).items():
            names[name if name in absolute else prefix + name] = (field.name, *path)
    return names


def override(config: Config, options: Mapping[str, Any]) -> Config:
    """The configuration with some options changed.

    Raises:
        ValueError: an option is unknown, for which the message suggests similar names, or a value has another type.
    """
    known = option_names(config)
    for name, value in options.items():
        if name not in known:
            raise unknown_option(name, known, "jaxdet.config.option_names(config)")
        config = _replace(config, known[name], _check(config, known[name], name, _freeze(value)))
    return config


def _check(config: Any, path: tuple[str, ...], name: str, value: Any) -> Any:
    """Checks the type of a value for the field at ``path``, so that a mistake is not found only during a run."""
    for part in path[:-1]:
        config = getattr(config, part)
    return check_field(config, path[-1], name, value)


def nearest(name: str, known: typing.Iterable[str], count: int = 1) -> str:
    """``"; did you mean 'x'?"`` with up to ``count`` similar names, for an error message; empty if there are none."""
    *others, last = [repr(found) for found in difflib.get_close_matches(name, list(known), n=count)] or [""]
    return f"; did you mean {', '.join(others)}{' or ' if others else ''}{last}?" if last else ""


def unknown_option(name: str, known: typing.Collection[str], where: str) -> ValueError:
    """The error for an unknown option. The message has similar names, and all names if they are few.

    Args:
        where: a Python expression that returns all names.
    """
    listed = f"known: {', '.join(sorted(known))}" if len(known) <= _LISTED else f"{where} lists all {len(known)}"
    return ValueError(f"unknown option {name!r}; {listed}{nearest(name, known, _NEAREST)}")


def _replace(config: Any, path: tuple[str, ...], value: Any) -> Any:
    if len(path) > 1:
        value = _replace(getattr(config, path[0]), path[1:], value)
    return dataclasses.replace(config, **{path[0]: value})


def _freeze(value: Any) -> Any:
    """Converts lists to tuples, so that a configuration stays hashable."""
    return tuple(_freeze(item) for item in value) if isinstance(value, (list, tuple)) else value


def to_dict(config: Any) -> Any:
    """A configuration as JSON values. A dataclass becomes an object with its class name under ``"type"``."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        fields = {field.name: to_dict(getattr(config, field.name)) for field in dataclasses.fields(config)}
        return {"type": type(config).__name__, **fields}
    return [to_dict(item) for item in config] if isinstance(config, (list, tuple)) else config


def from_dict(value: Any, classes: Mapping[str, type]) -> Any:
    """The inverse of `to_dict`.

    Args:
        classes: the dataclasses that may be created, by name.

    Raises:
        ValueError: a class or a field is unknown, or a value has another type than its field.
    """
    if isinstance(value, list):
        return tuple(from_dict(item, classes) for item in value)
    if not isinstance(value, dict):
        return value
    fields = dict(value)
    name = fields.pop("type", None)
    if not isinstance(name, str) or name not in classes:
        raise ValueError(f"unknown configuration type {reprlib.repr(name)}; known: {', '.join(sorted(classes))}")
    hints = field_types(classes[name])
    given = {}
    for key, item in fields.items():
        if key not in hints:
            raise ValueError(f"{name} has no field {key!r}{nearest(key, hints)}")
        given[key] = from_dict(item, classes)
        if not fits(given[key], hints[key]):
            raise ValueError(f"{name}'s {key} is {shortened(item)}; it must be {describe(hints[key])}")
    try:
        return classes[name](**given)
    except (TypeError, AttributeError, OverflowError) as error:  # a field is missing, or __post_init__ failed
        raise ValueError(f"{name} cannot be created from these values ({error})") from None

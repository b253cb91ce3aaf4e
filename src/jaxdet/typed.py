"""Checks of values against the annotated types of dataclass fields, so that mistakes are reported early."""

from __future__ import annotations

import collections.abc
import dataclasses
import sys
import types
import typing
from functools import cache
from typing import Any, Literal, Union

_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "True or False", type(None): "None"}


def check_field(config: Any, field: str, option: str, value: Any) -> Any:
    """Checks a value for a field of a dataclass, and returns it. A whole float becomes an int if the field is an int.

    A field that also accepts other types, which its class converts, has them in ``metadata={"also": bool}``.

    Args:
        config: the dataclass; option: the name of the field in messages.

    Raises:
        ValueError: the value does not have the field's type.
    """
    cls: type = type(config)
    hint = field_types(cls).get(field, Any)
    also = next(found.metadata.get("also", ()) for found in dataclasses.fields(config) if found.name == field)
    value = _float_to_int(value, hint)
    if not fits(value, hint) and not isinstance(value, also):
        now = shortened(getattr(config, field))
        raise ValueError(f"option {option!r} must be {describe(hint)} (now {now}), not {shortened(value)}")
    return value


@cache
def field_types(cls: type) -> dict[str, Any]:
    """The annotated types of a dataclass's fields; empty if they cannot be resolved."""
    try:
        hints = typing.get_type_hints(cls)
        return {field.name: hints[field.name] for field in dataclasses.fields(cls)}
    except Exception:  # a user's class may have imports for type checkers only
        return {}


def _members(hint: Any) -> tuple[Any, ...] | None:
    """The members of a union; None for other types."""
    return typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else None


def _float_to_int(value: Any, hint: Any) -> Any:
    """A whole float as an int, if the type includes int but not float. Other values are returned unchanged."""
    kinds = _members(hint) or (hint,)
    if isinstance(value, float) and value.is_integer() and int in kinds and float not in kinds:
        return int(value)
    return value


def fits(value: Any, hint: Any) -> bool:
    """Whether a value has an annotated type.

    An int is also a float, a bool is neither, and floats must be finite. Every value has a type that cannot be checked.
    """
    members, origin, arguments = _members(hint), typing.get_origin(hint), typing.get_args(hint)
    if members is not None:
        return any(fits(value, member) for member in members)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if arguments[1:] == (...,):
            return all(fits(item, arguments[0]) for item in value)
        return len(value) == len(arguments) and all(map(fits, value, arguments))
    if origin is collections.abc.Callable or hint is collections.abc.Callable:
        return callable(value)
    if hint is None or hint is type(None):
        return value is None
    if hint in (int, float):
        if isinstance(value, bool) or not isinstance(value, (int, float) if hint is float else int):
            return False
        return hint is int or abs(value) <= sys.float_info.max  # an int may be too large for a float
    if not isinstance(hint, type):
        return True  # Any, a type variable, or another type that is not known here
    try:
        return isinstance(value, hint)
    except TypeError:  # a protocol that isinstance does not support
        return True


def describe(hint: Any) -> str:
    """A description of an annotated type, for messages."""
    members, origin, arguments = _members(hint), typing.get_origin(hint), typing.get_args(hint)
    if members is not None:
        simple = [member for member in members if not dataclasses.is_dataclass(member)]  # also on the command line
        shown = simple if any(member is not type(None) for member in simple) else members
        kinds = list(dict.fromkeys(describe(member) for member in shown))
        return (", or " if any("," in kind for kind in kinds) else " or ").join(kinds)
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin is tuple:
        if arguments[1:] == (...,):
            return f"a list, [...], with each item {describe(arguments[0])}"
        return f"a list of {len(arguments)}: {'; '.join(map(describe, arguments))}"
    if origin is collections.abc.Callable or hint is collections.abc.Callable:
        return "a function (only in a Python file)"
    if hint in _NAMES:
        return _NAMES[hint]
    name = getattr(hint, "__name__", str(hint))
    article = "an" if name[0] in "AEIOU" else "a"
    return f"{article} {name}{' (only in a Python file)' if dataclasses.is_dataclass(hint) else ''}"


def shortened(value: Any) -> str:
    """The repr of a value, truncated to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."

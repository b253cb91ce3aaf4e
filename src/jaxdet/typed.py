"""Checks values against the annotated types of dataclass fields, so that a mistake is reported where it is made."""

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
    """The value for a field of a dataclass; a float that is whole becomes an int where an int is wanted.

    A field that takes values of another type too, because its class converts them, says so:
    ``metadata={"also": bool}``.

    Raises:
        ValueError: it is not of the field's type; the message names the option.
    """
    cls: type = type(config)
    hint = field_types(cls).get(field, Any)
    also = next(found.metadata.get("also", ()) for found in dataclasses.fields(config) if found.name == field)
    value = _whole(value, hint)
    if not fits(value, hint) and not isinstance(value, also):
        now = shortened(getattr(config, field))
        raise ValueError(f"option {option!r} is {describe(hint)} (now {now}), not {shortened(value)}")
    return value


@cache
def field_types(cls: type) -> dict[str, Any]:
    """The annotated types of a dataclass's fields."""
    try:
        hints = typing.get_type_hints(cls)
        return {field.name: hints[field.name] for field in dataclasses.fields(cls)}
    except Exception:  # a class of the user's own may name types that only a checker sees
        return {}


def _members(hint: Any) -> tuple[Any, ...] | None:
    """Of a union; None: it is none."""
    return typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else None


def _whole(value: Any, hint: Any) -> Any:
    kinds = _members(hint) or (hint,)
    if isinstance(value, float) and value.is_integer() and int in kinds and float not in kinds:
        return int(value)
    return value


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type.

    An int passes for a float, a bool for neither, and a float is finite. Types that cannot be looked into fit all.
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
        return hint is int or abs(value) <= sys.float_info.max  # an int may be beyond any float
    if not isinstance(hint, type):
        return True  # Any, a type variable, or what else this does not know
    try:
        return isinstance(value, hint)
    except TypeError:  # a protocol that is not for that
        return True


def describe(hint: Any) -> str:
    """An annotated type as a message names it."""
    members, origin, arguments = _members(hint), typing.get_origin(hint), typing.get_args(hint)
    if members is not None:
        written = [member for member in members if not dataclasses.is_dataclass(member)]  # can be typed
        shown = written if any(member is not type(None) for member in written) else members
        kinds = list(dict.fromkeys(describe(member) for member in shown))
        return (", or " if any("," in kind for kind in kinds) else " or ").join(kinds)
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin is tuple:
        if arguments[1:] == (...,):
            return f"a list, [...], of which each is {describe(arguments[0])}"
        return f"a list of {len(arguments)}: {'; '.join(map(describe, arguments))}"
    if origin is collections.abc.Callable or hint is collections.abc.Callable:
        return "a function, which a Python file can give"
    if hint in _NAMES:
        return _NAMES[hint]
    name = getattr(hint, "__name__", str(hint))
    article = "an" if name[0] in "AEIOU" else "a"
    return f"{article} {name}{', which a Python file can give' if dataclasses.is_dataclass(hint) else ''}"


def shortened(value: Any) -> str:
    """A value's text, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."

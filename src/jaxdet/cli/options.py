"""``--set KEY=VALUE``, the same in every command."""

from __future__ import annotations

import ast
import json
from typing import Any


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """``["steps=10", "dtype=bfloat16", "sizes=[32, 64]"]`` as a dict.

    A value is JSON, in which an object names its configuration class by ``"type"``; or a Python literal, such as a
    tuple or None; or else text.

    Raises:
        ValueError: there is no ``=``, or an object is no configuration.
    """
    from jaxdet.config import from_dict
    from jaxdet.models.registry import CONFIG_TYPES

    options = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign:
            raise ValueError(f"--set takes KEY=VALUE, not {pair!r}")
        options[name] = from_dict(_value(text), CONFIG_TYPES)
    return options


def _value(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text

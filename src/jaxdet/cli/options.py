"""Parsing of ``--set KEY=VALUE`` for all commands."""

from __future__ import annotations

import ast
import json
from typing import Any


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """``["steps=10", "dtype=bfloat16", "sizes=[32, 64]"]`` as a dict.

    A value is parsed as JSON, in which ``"type"`` gives the configuration class of an object; else as a Python literal,
    such as a tuple or None; else it is text.

    Raises:
        ValueError: a pair has no ``=``, or an object is not a configuration.
    """
    from jaxdet.config import from_dict
    from jaxdet.models.registry import CONFIG_TYPES

    options = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign:
            raise ValueError(f"--set takes KEY=VALUE, not {pair!r}")
        options[name] = from_dict(_parse_value(text), CONFIG_TYPES)
    return options


def _parse_value(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text

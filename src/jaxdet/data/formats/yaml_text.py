"""Safe reading of YAML files as nodes with line numbers, and conversion of nodes to values."""

from __future__ import annotations

from typing import Any

import yaml

from jaxdet.paths import PathLike, to_path

_MOST_NODES = 1_000_000  # with all aliases expanded


def read_yaml(file: PathLike) -> yaml.Node | None:
    """The root node of a file; None if it is empty.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not YAML, a value contains itself, or aliases expand to more than a million values. The
            message has the file and, if known, the line.
    """
    try:
        node = yaml.compose(to_path(file).read_bytes().decode("utf-8-sig"), Loader=yaml.SafeLoader)
        if node is not None:
            _count(node, {})
    except FileNotFoundError:
        raise
    except RecursionError:
        raise ValueError(f"{file}: nested too deeply, or a value contains itself; correct it") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{_place(file, error)}: not YAML ({_reason(error)}); correct it") from None
    return node


def yaml_value(file: PathLike, node: yaml.Node) -> Any:
    """The value of a node. Raises ValueError with the file and the line if it is invalid."""
    try:
        return yaml.SafeLoader("").construct_object(node, deep=True)
    except Exception as error:  # PyYAML's constructors raise many types, such as IndexError for !!int ""
        line = node.start_mark.line + 1
        raise ValueError(f"{file}:{line}: a value cannot be read ({_reason(error)}); correct it") from None


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """The number of nodes with all aliases expanded. Raises RecursionError if a node contains itself."""
    if id(node) not in known:
        parts = [] if isinstance(node, yaml.ScalarNode) else node.value
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in parts for part in pair]
        known[id(node)] = 1 + sum(_count(part, known) for part in parts)
        if known[id(node)] > _MOST_NODES:
            raise ValueError(f"its aliases expand to more than {_MOST_NODES} values")
    return known[id(node)]


def _place(file: PathLike, error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return str(file) if mark is None else f"{file}:{mark.line + 1}"


def _reason(error: Exception) -> str:
    first = str(getattr(error, "problem", None) or error).partition("\n")[0]
    return first if isinstance(error, (ValueError, yaml.YAMLError)) else f"{type(error).__name__} {first}".rstrip()

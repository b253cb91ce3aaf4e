"""Reading and checking HeadHunter's YAML files."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from jaxdet.config import nearest
from jaxdet.data.formats.yaml_text import read_yaml, yaml_value


@dataclass(frozen=True)
class _Kind:
    """The type of a key's value. default: the value of an optional key; ...: the key is required."""

    text: str
    fits: Callable[[Any], bool]
    default: Any = ...


def _is_whole(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0


def _is_triple(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_is_number, value))


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


_TEXT = _Kind("text", lambda value: isinstance(value, str) and bool(value))
_OPTIONAL_TEXT = _Kind("text", _is_text, None)
_SWITCH = _Kind("True or False", lambda value: type(value) is bool)
_WHOLE = _Kind("a whole number of at least 0", _is_whole)
_SIZE = _Kind("a whole number above 0", lambda value: _is_whole(value) and value > 0)
_NUMBER = _Kind("a number of at least 0", _is_number)
_SIZES = _Kind(
    "a whole number above 0, or a list of them",
    lambda value: _SIZE.fits(value) or (isinstance(value, list) and bool(value) and all(map(_SIZE.fits, value))),
)
_MARKS = _Kind(
    "an ascending list of whole numbers",
    lambda value: isinstance(value, list) and all(map(_is_whole, value)) and value == sorted(value),
)
_MEAN_STD = _Kind(
    "[[r, g, b], [r, g, b]], mean and standard deviation of values in 0 to 255, or nothing",
    lambda value: value is None or (isinstance(value, list) and len(value) == 2 and all(map(_is_triple, value))),
    None,
)
_OHEM = _Kind("True, False or a number of proposals", lambda value: type(value) is bool or _SIZE.fits(value))

SECTIONS: dict[str, dict[str, _Kind]] = {
    "DATASET": {
        "base_path": _TEXT, "train": _TEXT, "valid": _OPTIONAL_TEXT, "benchmark": _TEXT,
        "mean_std": _MEAN_STD, "min_size": _SIZES, "max_size": _SIZE,
    },
    "TRAINING": {
        "exp_name": _OPTIONAL_TEXT, "backbone": _TEXT, "only_backbone": _SWITCH, "pretrained_model": _OPTIONAL_TEXT,
        "save_dir": _OPTIONAL_TEXT, "start_epoch": _WHOLE, "eval_every": _SIZE, "log_dir": _OPTIONAL_TEXT,
        "milestones": _MARKS, "max_epoch": _SIZE,
    },
    "HYPER_PARAM": {
        "learning_rate": _NUMBER, "momentum": _NUMBER, "weight_decay": _NUMBER, "gamma": _NUMBER, "batch_size": _SIZE,
    },
    "NETWORK": {
        "use_deform": _SWITCH, "ohem": _OHEM, "context": _Kind("the name of a context module, or nothing", _is_text),
        "custom_sampling": _SWITCH, "soft_nms": _SWITCH, "upscale_rpn": _SWITCH, "median_anchors": _SWITCH,
    },
}  # fmt: skip


class HeadHunterYaml(Mapping[str, Any]):
    """The values of a file by key; keys are unique over all sections.

    Raises:
        ValueError: the file is not YAML, a section or key is unknown or missing, or a value has the wrong type. The
            message has the line.
    """

    def __init__(self, file: str | Path) -> None:
        self.file = Path(file)
        root = self._parse()
        sections = {name: (line, node) for name, line, node in self._pairs(root, SECTIONS, "the file")}
        self._values: dict[str, Any] = {}
        self._lines: dict[str, int] = {}
        for section, kinds in SECTIONS.items():
            if section not in sections:
                raise ValueError(f"{self.file}: no section {section}; expected {', '.join(SECTIONS)}")
            line, content = sections[section]
            for key, key_line, node in self._pairs(content, kinds, section):
                self._values[key] = self._checked(key, kinds[key], yaml_value(self.file, node), key_line)
                self._lines[key] = key_line
            for key, kind in kinds.items():
                if key not in self._values:
                    if kind.default is ...:
                        raise ValueError(f"{self.file}:{line}: {section} has no {key}; add it: {kind.text}")
                    self._values[key] = kind.default

    def place(self, key: str) -> str:
        """``file:line`` of a key, for messages."""
        return f"{self.file}:{self._lines[key]}" if key in self._lines else str(self.file)

    def error(self, key: str, text: str) -> ValueError:
        """The error for a value, with its file and line."""
        return ValueError(f"{self.place(key)}: {key} {text}")

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def _parse(self) -> yaml.Node:
        try:
            node = read_yaml(self.file)
        except FileNotFoundError:
            raise ValueError(f"{self.file}: no such file; give one of HeadHunter's YAML files") from None
        if node is None:
            raise ValueError(f"{self.file}: the file is empty; expected the sections {', '.join(SECTIONS)}")
        return node

    def _pairs(self, node: yaml.Node, known: Mapping[str, Any], where: str) -> list[tuple[str, int, yaml.Node]]:
        """(key, line, value) of a mapping. Unknown and duplicate keys are errors."""
        if not isinstance(node, yaml.MappingNode):
            line = node.start_mark.line + 1
            raise ValueError(f"{self.file}:{line}: {where} has no keys; expected {', '.join(known)}")
        found: dict[str, tuple[str, int, yaml.Node]] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            name = key.value if isinstance(key, yaml.ScalarNode) else f"a {key.id}"
            if name not in known:
                hint = nearest(name, known) or f"; known: {', '.join(known)}"
                raise ValueError(f"{self.file}:{line}: {where} has an unknown key {name!r}{hint}")
            if name in found:
                raise ValueError(f"{self.file}:{line}: {name} is also on line {found[name][1]}; keep one of them")
            found[name] = (name, line, value)
        return list(found.values())

    def _checked(self, key: str, kind: _Kind, value: Any, line: int) -> Any:
        if isinstance(value, str) and kind is _NUMBER:
            try:
                value = float(value)  # YAML reads 1e-3 as text
            except ValueError:
                pass
        if not kind.fits(value):
            raise ValueError(f"{self.file}:{line}: {key} is {reprlib.repr(value)}; expected {kind.text}")
        return value

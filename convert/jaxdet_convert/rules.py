"""Conversion tables: rules that map PyTorch names to parameter paths, and their layouts to each other.

A table is applied in both directions, so its patterns are templates instead of regular expressions. A template is
literal text with named gaps. Both sides of a rule have the same gaps:

    {i}            a whole number, without leading zeros
    {x:name}       one component, without dots
    {x:path}       one or more components
    {x:a|b}        one of the listed words

The kind of a gap is given in the source; the target only repeats its name:

    Rule("body.layer{l}.{b}.conv{c}.weight", "backbone.layer{l}.{b}.conv{c}.kernel", CONV)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

_GAP = re.compile(r"\{([a-z]\w*)(?::([^{}]+))?\}")
_NUMBER = r"0|[1-9]\d*"
_KINDS = {"name": r"[^.]+", "path": r"[^.]+(?:\.[^.]+)*"}
Array = np.ndarray


@dataclass(frozen=True)
class Template:
    """Text with named gaps; see the module's documentation. ``kinds``: the kinds of gaps without one.

    Raises:
        ValueError: a gap is malformed, occurs twice, or directly follows another.
    """

    text: str
    kinds: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    gaps: Mapping[str, str] = field(init=False, compare=False, repr=False)
    _regex: re.Pattern[str] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        gaps: dict[str, str] = {}
        pattern = ""
        end = -1
        for gap in _GAP.finditer(self.text):
            name, kind = gap.group(1), gap.group(2) or self.kinds.get(gap.group(1), "")
            if name in gaps:
                raise ValueError(f"template {self.text!r} has the gap {name!r} twice: use different names")
            if gap.start() == end:
                raise ValueError(f"template {self.text!r} has two gaps side by side: put text between them")
            if kind and kind not in _KINDS and "|" not in kind:
                raise ValueError(f"template {self.text!r} has a gap of unknown kind {kind!r}: write name, path or a|b")
            gaps[name] = kind
            words = "|".join(map(re.escape, kind.split("|"))) if kind else _NUMBER
            pattern += re.escape(self.text[max(end, 0) : gap.start()]) + f"(?P<{name}>{_KINDS.get(kind, words)})"
            end = gap.end()
        pattern += re.escape(self.text[max(end, 0) :])
        if "{" in _GAP.sub("", self.text) or "}" in _GAP.sub("", self.text):
            raise ValueError(
                f"template {self.text!r} has a malformed gap: write {{i}}, {{x:name}}, {{x:path}}, {{x:a|b}}"
            )
        object.__setattr__(self, "gaps", gaps)
        object.__setattr__(self, "_regex", re.compile(pattern, re.ASCII))

    def match(self, text: str) -> dict[str, str] | None:
        """The values of the gaps; None if the text does not match."""
        found = self._regex.fullmatch(text)
        return None if found is None else found.groupdict()

    def fill(self, values: Mapping[str, str]) -> str:
        """The text with its gaps filled."""
        return _GAP.sub(lambda gap: values[gap.group(1)], self.text)


def _pair(left: str, right: str) -> tuple[Template, Template]:
    first = Template(left)
    second = Template(right, first.gaps)
    if first.gaps != second.gaps:
        only = sorted(first.gaps.keys() ^ second.gaps.keys()) or "of another kind"
        raise ValueError(f"{left!r} and {right!r} have different gaps ({only}): each has to occur on both sides")
    return first, second


@dataclass(frozen=True)
class Transform:
    """An invertible change of layout.

    Attributes:
        name: for messages.
        forward: converts PyTorch's array to jaxdet's; raises ValueError for an unsuitable shape.
        inverse: the exact inverse.
    """

    name: str
    forward: Callable[[Array], Array]
    inverse: Callable[[Array], Array]


def _permutation(name: str, axes: tuple[int, ...]) -> Transform:
    back = tuple(int(axis) for axis in np.argsort(axes))
    return Transform(name, lambda array: array.transpose(axes), lambda array: array.transpose(back))


def _narrow(array: Array) -> Array:
    is_number = array.dtype.kind in "iuf" and not array.shape and np.isfinite(array)
    if not is_number or int(array) != array or not -(2**31) <= int(array) < 2**31:
        raise ValueError("a counter has to be one whole number of at most 32 bits")
    return array.astype(np.int32)


def _widen(array: Array) -> Array:
    if array.dtype != np.int32 or array.shape:
        raise ValueError("a counter has to be one int32")
    return array.astype(np.int64)


IDENTITY = Transform("identity", lambda array: array, lambda array: array)

CONV = _permutation("conv", (2, 3, 1, 0))
"""[O, I, kh, kw] <-> [kh, kw, I, O]."""

DEPTHWISE = Transform("depthwise", CONV.forward, CONV.inverse)
"""[C, 1, kh, kw] <-> [kh, kw, 1, C]: the same permutation, as each group has one input channel."""

CONV_TRANSPOSE = _permutation("conv_transpose", (2, 3, 0, 1))
"""[I, O, kh, kw] <-> [kh, kw, I, O], as `jaxdet.ops.conv_transpose_2x` takes it: not rotated."""

LINEAR = _permutation("linear", (1, 0))
"""[out, in] <-> [in, out]."""

COUNTER = Transform("counter", _narrow, _widen)
"""int64 [] <-> int32 []: `num_batches_tracked`. Also accepts whole floats, as a state dict may have been cast."""


def flatten_linear(channels: int, height: int, width: int) -> Transform:
    """A linear layer after flattening: [out, C * H * W] <-> [H * W * C, out], because features are [H, W, C] here."""

    def forward(array: Array) -> Array:
        out = len(array)
        return array.reshape(out, channels, height, width).transpose(2, 3, 1, 0).reshape(-1, out)

    def inverse(array: Array) -> Array:
        out = array.shape[1]
        return array.reshape(height, width, channels, out).transpose(3, 2, 0, 1).reshape(out, -1)

    return Transform(f"flatten_linear({channels}, {height}, {width})", forward, inverse)


@dataclass(frozen=True)
class Rule:
    """Maps PyTorch names that match ``source`` to parameter paths that match ``target``.

    Raises:
        ValueError: a template is malformed, or the two have different gaps.
    """

    source: str
    target: str
    transform: Transform = IDENTITY
    _sides: tuple[Template, Template] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_sides", _pair(self.source, self.target))

    def forward(self, name: str) -> str | None:
        """The parameter path of a PyTorch name; None if it does not match."""
        return _translate(name, *self._sides)

    def inverse(self, path: str) -> str | None:
        """The PyTorch name of a parameter path; None if it does not match."""
        source, target = self._sides
        return _translate(path, target, source)


@dataclass(frozen=True)
class Spelling:
    """An older spelling of some names. Files with the old names are read as if they had the new ones."""

    old: str
    new: str
    _sides: tuple[Template, Template] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_sides", _pair(self.old, self.new))

    def modern(self, name: str) -> str | None:
        """The new name for an old one; None if it does not match."""
        return _translate(name, *self._sides)

    def former(self, name: str) -> str | None:
        """The old name for a new one; None if it does not match."""
        source, target = self._sides
        return _translate(name, target, source)


def _translate(text: str, source: Template, target: Template) -> str | None:
    values = source.match(text)
    return None if values is None else target.fill(values)


@dataclass(frozen=True)
class Table:
    """All rules of one family of checkpoints. Every name has to match exactly one of them."""

    rules: tuple[Rule, ...]
    spellings: tuple[Spelling, ...] = ()

    def forward(self, name: str) -> list[tuple[Rule, str]]:
        """The rules that match a PyTorch name, each with the parameter path; exactly one in a correct table."""
        return [(rule, path) for rule in self.rules if (path := rule.forward(name)) is not None]

    def inverse(self, path: str) -> list[tuple[Rule, str]]:
        """The rules that match a parameter path, each with the PyTorch name."""
        return [(rule, name) for rule in self.rules if (name := rule.inverse(path)) is not None]

    def modern(self, name: str) -> str:
        """The name in the current spelling."""
        return next((new for s in self.spellings if (new := s.modern(name)) is not None), name)

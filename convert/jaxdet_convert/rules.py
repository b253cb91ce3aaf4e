"""Conversion as tables: which PyTorch name is which parameter here, and how its numbers are laid out.

A table is read in both directions, so its patterns are templates rather than regular expressions. A template is literal
text with named gaps, and a rule's two sides have the same gaps:

    {i}            a whole number, without leading zeros
    {x:name}       one component: no dots
    {x:path}       one or more components
    {x:a|b}        one of the words listed

The kind of a gap stands in the source; the target repeats its name alone:

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
    """Text with named gaps, see the module. `kinds` gives those of gaps which name none.

    Raises:
        ValueError: a gap is malformed, comes twice, or follows another with nothing between.
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
                raise ValueError(f"template {self.text!r} has the gap {name!r} twice: name them apart")
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
        """What fills the gaps, or None where the text is of another form."""
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
        raise ValueError(f"{left!r} and {right!r} have different gaps ({only}): each has to come on both sides")
    return first, second


@dataclass(frozen=True)
class Transform:
    """A change of layout that loses nothing.

    Attributes:
        name: for messages.
        forward: PyTorch's array to this library's; raises ValueError for a shape that it cannot take.
        inverse: back, bit for bit.
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
        raise ValueError("a counter is one whole number that fits 32 bits")
    return array.astype(np.int32)


def _widen(array: Array) -> Array:
    if array.dtype != np.int32 or array.shape:
        raise ValueError("a counter is one int32")
    return array.astype(np.int64)


IDENTITY = Transform("identity", lambda array: array, lambda array: array)

CONV = _permutation("conv", (2, 3, 1, 0))
"""[O, I, kh, kw] <-> [kh, kw, I, O]."""

DEPTHWISE = Transform("depthwise", CONV.forward, CONV.inverse)
"""[C, 1, kh, kw] <-> [kh, kw, 1, C]: the same permutation, because one input channel belongs to each group."""

CONV_TRANSPOSE = _permutation("conv_transpose", (2, 3, 0, 1))
"""[I, O, kh, kw] <-> [kh, kw, I, O], as `jaxdet.ops.conv_transpose_2x` takes it: not turned round."""

LINEAR = _permutation("linear", (1, 0))
"""[out, in] <-> [in, out]."""

COUNTER = Transform("counter", _narrow, _widen)
"""int64 [] <-> int32 []: `num_batches_tracked`. Whole floats are taken, too: a whole state dict may have been cast."""


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
    """Names of the form `source` in PyTorch are parameters of the form `target` here.

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
        """The parameter's path for a PyTorch name; None where the rule is not about it."""
        return _carry(name, *self._sides)

    def inverse(self, path: str) -> str | None:
        """The PyTorch name for a parameter's path; None where the rule is not about it."""
        source, target = self._sides
        return _carry(path, target, source)


@dataclass(frozen=True)
class Spelling:
    """An older way to write some names: a file that uses it is read as though it had the new one."""

    old: str
    new: str
    _sides: tuple[Template, Template] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_sides", _pair(self.old, self.new))

    def modern(self, name: str) -> str | None:
        """The new name for an old one; None where the spelling is not about it."""
        return _carry(name, *self._sides)

    def former(self, name: str) -> str | None:
        """The old name for a new one; None where the spelling is not about it."""
        source, target = self._sides
        return _carry(name, target, source)


def _carry(text: str, source: Template, target: Template) -> str | None:
    values = source.match(text)
    return None if values is None else target.fill(values)


@dataclass(frozen=True)
class Table:
    """All rules of one family of checkpoints. Every name has to fall under exactly one."""

    rules: tuple[Rule, ...]
    spellings: tuple[Spelling, ...] = ()

    def forward(self, name: str) -> list[tuple[Rule, str]]:
        """The rules about a PyTorch name, each with its path: one, unless the table has a gap or an overlap."""
        return [(rule, path) for rule in self.rules if (path := rule.forward(name)) is not None]

    def inverse(self, path: str) -> list[tuple[Rule, str]]:
        """The rules about a parameter's path, each with its PyTorch name."""
        return [(rule, name) for rule in self.rules if (name := rule.inverse(path)) is not None]

    def modern(self, name: str) -> str:
        """The name in today's spelling: the first spelling that is about it, or the name as it is."""
        return next((new for s in self.spellings if (new := s.modern(name)) is not None), name)

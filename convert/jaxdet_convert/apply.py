"""Strict application of a table, in both directions: nothing unmapped, nothing unfilled, nothing mapped twice.

Every problem is collected, and all are raised together: a converter is written by reading such a list.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import ml_dtypes
import numpy as np

from jaxdet.config import nearest
from jaxdet_convert.rules import COUNTER, Table, Template, Transform


class Shaped(Protocol):
    """Anything with a shape and a dtype: an array, or a `jax.ShapeDtypeStruct`."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...


class ConversionError(ValueError):
    """The table, the weights and the model do not fit. `problems` has one sorted line for each misfit."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(sorted(problems))
        count = f"{len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}"
        super().__init__(
            f"the weights and the model do not fit ({count}); choose the variant that the weights were trained with, "
            "or name what to drop or to leave fresh:\n" + "\n".join(f"  {problem}" for problem in self.problems)
        )

    def __reduce__(self) -> tuple[type[ConversionError], tuple[tuple[str, ...]]]:
        return type(self), (self.problems,)


@dataclass(frozen=True, eq=False)
class Converted:
    """Parameters for a model, and what was done to get them.

    Attributes:
        arrays: {path: array}, in the order of the model's paths.
        dropped: names of the weights that were left out, because `drop` said so; as the file spells them.
        fresh: paths that the weights do not fill, because `fresh` said so.
        respelled: {today's name: the file's name} of those in an older spelling; `to_torch` takes it to undo that.
        cast: how many arrays changed their dtype, by (old, new).
    """

    arrays: dict[str, np.ndarray]
    dropped: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    respelled: dict[str, str] = field(default_factory=dict)
    cast: dict[tuple[str, str], int] = field(default_factory=dict)


def to_jax(
    tensors: Mapping[str, np.ndarray],
    table: Table,
    target: Mapping[str, Shaped],
    *,
    drop: Iterable[str] = (),
    fresh: Iterable[str] = (),
) -> Converted:
    """PyTorch's tensors as the parameters of a model.

    Numbers are permuted, and cast as PyTorch casts them where the model wants another float (float64 to float32), or
    where a counter is one; `Converted.cast` counts that. A finite number that would become infinite is a problem, and
    so are integers in place of floats.

    Args:
        tensors: {PyTorch name: array}.
        target: {path: array or ShapeDtypeStruct} of all the model's parameters and statistics.
        drop: templates (see `rules`) of PyTorch names that may be left out. A name that a template covers is left out
            even where a rule would map it.
        fresh: templates of paths that may stay unfilled.

    Raises:
        ConversionError: with every name unmapped or mapped twice, every path unfilled, every wrong shape and dtype,
            every template that matches nothing (`matching` picks those that do).
    """
    drops, leaves = _templates(drop), _templates(fresh)
    fit = _Fit(narrows=True)
    problems = fit.problems
    names = {name for original in tensors for name in (original, table.modern(original))}
    problems += [*_idle("drop", drops, names), *_idle("fresh", leaves, target)]
    dropped: list[str] = []
    respelled: dict[str, str] = {}
    filled: dict[str, tuple[str, np.ndarray | None]] = {}
    for original, tensor in tensors.items():
        name = table.modern(original)
        if _covers(drops, name) or _covers(drops, original):
            dropped.append(original)
            continue
        if name != original:
            if name in tensors:
                problems.append(f"twice in the weights: {name}, also in its old spelling {original}")
                continue
            respelled[name] = original
        matches = table.forward(name)
        if len(matches) != 1:
            paths = ", ".join(sorted(path for _, path in matches))
            problems.append(f"mapped twice: {name} -> {paths}" if matches else f"unmapped: {original} {tensor.shape}")
            continue
        ((rule, path),) = matches
        if path not in target:
            problems.append(f"not in the model: {original} {tensor.shape} -> {path}")
        elif path in filled:
            problems.append(f"filled twice: {path} <- {filled[path][0]}, {original}")
        else:
            filled[path] = original, fit(tensor, rule.transform, target[path], f"{original} -> {path}")
    unfilled = [path for path in target if path not in filled]
    problems += [
        f"unfilled: {path} {tuple(target[path].shape)}{_wanted(table, path)}"
        for path in unfilled
        if not _covers(leaves, path)
    ]
    fit.check()
    arrays = {path: array for path in target if path in filled and (array := filled[path][1]) is not None}
    return Converted(arrays, tuple(sorted(dropped)), tuple(sorted(unfilled)), respelled, dict(fit.cast))


def to_torch(
    arrays: Mapping[str, np.ndarray],
    table: Table,
    expected: Mapping[str, Shaped] | None = None,
    *,
    drop: Iterable[str] = (),
    respelled: Mapping[str, str] | None = None,
) -> dict[str, np.ndarray]:
    """A model's parameters as PyTorch's tensors: the inverse of `to_jax`, as strict.

    Args:
        arrays: {path: array} of all the model's parameters and statistics.
        expected: {PyTorch name: array or anything with shape and dtype}, as today's spelling has it: where given, the
            result has exactly these names, shapes and dtypes.
        drop: templates of paths that may be left out.
        respelled: `Converted.respelled`, to write names as the file had them.

    Raises:
        ConversionError: with every path unmapped or mapped twice, every name missing, every wrong shape and dtype,
            every template that matches nothing.
    """
    drops = _templates(drop)
    old = respelled or {}
    fit = _Fit(narrows=False)
    problems = fit.problems
    problems += _idle("drop", drops, arrays)
    filled: dict[str, tuple[str, np.ndarray | None]] = {}
    for path, value in arrays.items():
        if _covers(drops, path):
            continue
        array = np.asarray(value)
        matches = table.inverse(path)
        if len(matches) != 1:
            names = ", ".join(sorted(name for _, name in matches))
            problems.append(f"mapped twice: {path} -> {names}" if matches else f"unmapped: {path} {array.shape}")
            continue
        ((rule, name),) = matches
        # A table that overlaps in PyTorch's names would write what it cannot read back.
        if [back for _, back in table.forward(name)] != [path]:
            problems.append(f"not readable back: {path} -> {name}")
        elif name in filled:
            problems.append(f"filled twice: {name} <- {filled[name][0]}, {path}")
        elif expected is not None and name not in expected:
            problems.append(f"not expected: {path} {array.shape} -> {name}")
        else:
            back = Transform(rule.transform.name, rule.transform.inverse, rule.transform.forward)
            wanted = None if expected is None else expected[name]
            filled[name] = path, fit(array, back, wanted, f"{path} -> {name}")
    if expected is not None:
        problems += [f"missing: {name} {tuple(want.shape)}" for name, want in expected.items() if name not in filled]
    fit.check()
    order = filled if expected is None else expected
    return {old.get(name, name): tensor for name in order if (tensor := filled[name][1]) is not None}


def matching(templates: Iterable[str], names: Iterable[str]) -> tuple[str, ...]:
    """Those of the templates that match one of the names."""
    known = list(names)
    return tuple(text for text in templates if any(_covers(_templates(text), name) for name in known))


def _idle(option: str, templates: Iterable[Template], names: Iterable[str]) -> list[str]:
    """A problem for each template that matches none of the names: a typo there would go unnoticed."""
    known = list(names)
    return [
        f"{option}: nothing matches {template.text!r}{nearest(template.text, known)}"
        for template in templates
        if not any(template.match(name) is not None for name in known)
    ]


def _templates(texts: Iterable[str]) -> list[Template]:
    return [Template(text) for text in ([texts] if isinstance(texts, str) else texts)]


def _covers(templates: Iterable[Template], text: str) -> bool:
    return any(template.match(text) is not None for template in templates)


def _wanted(table: Table, path: str) -> str:
    names = sorted(name for _, name in table.inverse(path))
    return f" <- {', '.join(names)}" if names else " (no rule leads to it)"


@dataclass
class _Fit:
    """Arrays in their new layout and dtype, and what went wrong on the way.

    Attributes:
        narrows: whether a float may become a narrower one.
        cast: see `Converted`.
        dtypes: routes of the arrays with a wrong dtype, by (found, wanted): one line each, however many they are.
    """

    narrows: bool
    problems: list[str] = field(default_factory=list)
    cast: Counter[tuple[str, str]] = field(default_factory=Counter)
    dtypes: defaultdict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    def __call__(self, array: np.ndarray, transform: Transform, wanted: Shaped | None, route: str) -> np.ndarray | None:
        """The array, contiguous; None where it does not fit."""
        try:
            result = transform.forward(array)
        except (ValueError, TypeError, IndexError) as error:
            expected = "" if wanted is None else f", where {tuple(wanted.shape)} is wanted"
            what = f"{array.dtype} {array.shape} is not for {transform.name}{expected} ({error})"
            self.problems.append(f"shape: {route}: {what}")
            return None
        # asarray, because ascontiguousarray would make a vector of a scalar.
        result = np.asarray(result, order="C")
        if transform is COUNTER and array.dtype != np.int64:
            self.cast[str(array.dtype), "int64"] += 1
        if wanted is None:
            return result
        if result.shape != tuple(wanted.shape):
            laid_out = f"{array.shape} becomes {result.shape}"
            self.problems.append(
                f"shape: {route}: {laid_out} by {transform.name}, where {tuple(wanted.shape)} is wanted"
            )
            return None
        return result if result.dtype == wanted.dtype else self._cast(result, wanted.dtype, route)

    def _cast(self, array: np.ndarray, dtype: np.dtype, route: str) -> np.ndarray | None:
        both = str(array.dtype), str(dtype)
        floats = _is_float(array.dtype) and _is_float(dtype)
        if not floats or not (self.narrows or np.can_cast(array.dtype, dtype, "safe")):
            self.dtypes[both].append(route)
            return None
        with np.errstate(over="ignore"):
            result = array.astype(dtype)
        if not np.array_equal(np.isfinite(array), np.isfinite(result)):
            self.problems.append(f"range: {route}: {both[0]} numbers that {both[1]} cannot hold")
            return None
        self.cast[both] += 1
        return result

    def check(self) -> None:
        """Raises ConversionError if there was any problem."""
        for (found, wanted), routes in self.dtypes.items():
            more = f" and {len(routes) - 1} more" if len(routes) > 1 else ""
            self.problems.append(f"dtype: {routes[0]}{more}: {found}, where {wanted} is wanted")
        if self.problems:
            raise ConversionError(self.problems)


def _is_float(dtype: np.dtype) -> bool:
    return np.issubdtype(dtype, np.floating) or dtype == ml_dtypes.bfloat16

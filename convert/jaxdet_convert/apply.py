"""Strict application of a conversion table, in both directions.

Every tensor has to be mapped once, and every parameter filled once. All problems are collected and raised together.
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
    """The weights do not fit the model. ``problems`` has one line per problem, sorted."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(sorted(problems))
        count = f"{len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}"
        super().__init__(
            f"the weights do not fit the model ({count}); choose the configuration that the weights were trained with, "
            "or name the tensors to drop and the parameters to initialise:\n"
            + "\n".join(f"  {problem}" for problem in self.problems)
        )

    def __reduce__(self) -> tuple[type[ConversionError], tuple[tuple[str, ...]]]:
        return type(self), (self.problems,)


@dataclass(frozen=True, eq=False)
class Converted:
    """Parameters for a model, and the changes that the conversion made.

    Attributes:
        arrays: ``{path: array}``, in the order of the model's paths.
        dropped: names of the tensors that ``drop`` excluded, as spelled in the file.
        fresh: paths that ``fresh`` excluded; the weights do not fill them.
        respelled: ``{current name: name in the file}`` of the names in an older spelling. `to_torch` accepts it to
            write the old names again.
        cast: the number of arrays that were cast, by (old dtype, new dtype).
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
    """Converts PyTorch's tensors to the parameters of a model.

    Axes are permuted. Floats are cast to the model's dtype as PyTorch casts them (float64 to float32), and counters to
    int32; `Converted.cast` counts both. A finite number that would become infinite is a problem, and so are integers
    where the model has floats.

    Args:
        tensors: ``{PyTorch name: array}``.
        target: ``{path: array or ShapeDtypeStruct}`` of all parameters and statistics of the model.
        drop: templates (see `jaxdet_convert.rules`) of PyTorch names to leave out, even if a rule maps them.
        fresh: templates of paths that may remain unfilled.

    Raises:
        ConversionError: names that are unmapped or mapped twice, unfilled paths, wrong shapes or dtypes, or templates
            that match nothing (`matching` selects those that match). The error lists all of them.
    """
    drops, skipped = _templates(drop), _templates(fresh)
    fit = _Fit(narrows=True)
    problems = fit.problems
    names = {name for original in tensors for name in (original, table.modern(original))}
    problems += [*_idle("drop", drops, names), *_idle("fresh", skipped, target)]
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
        f"unfilled: {path} {tuple(target[path].shape)}{_describe_names(table, path)}"
        for path in unfilled
        if not _covers(skipped, path)
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
    """Converts a model's parameters to PyTorch's tensors: the inverse of `to_jax`, equally strict.

    Args:
        arrays: ``{path: array}`` of all parameters and statistics of the model.
        expected: ``{PyTorch name: array or anything with shape and dtype}`` in the current spelling. If given, the
            result has exactly these names, shapes and dtypes.
        drop: templates of paths to leave out.
        respelled: `Converted.respelled`, to write names as they were spelled in the file.

    Raises:
        ConversionError: paths that are unmapped or mapped twice, missing names, wrong shapes or dtypes, or templates
            that match nothing. The error lists all of them.
    """
    drops = _templates(drop)
    old_names = respelled or {}
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
        # With rules that overlap in PyTorch's names, the result could not be read back.
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
    return {old_names.get(name, name): tensor for name in order if (tensor := filled[name][1]) is not None}


def matching(templates: Iterable[str], names: Iterable[str]) -> tuple[str, ...]:
    """The templates that match at least one of the names."""
    known = list(names)
    return tuple(text for text in templates if any(_covers(_templates(text), name) for name in known))


def _idle(option: str, templates: Iterable[Template], names: Iterable[str]) -> list[str]:
    """One problem per template that matches none of the names, as it may contain a typo."""
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


def _describe_names(table: Table, path: str) -> str:
    names = sorted(name for _, name in table.inverse(path))
    return f" <- {', '.join(names)}" if names else " (no rule maps to it)"


@dataclass
class _Fit:
    """Converts arrays to their new layout and dtype, and collects the problems.

    Attributes:
        narrows: whether floats may be cast to a narrower dtype.
        cast: see `Converted`.
        dtypes: routes of the arrays with a wrong dtype, by (found, expected). Each pair becomes one problem.
    """

    narrows: bool
    problems: list[str] = field(default_factory=list)
    cast: Counter[tuple[str, str]] = field(default_factory=Counter)
    dtypes: defaultdict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    def __call__(self, array: np.ndarray, transform: Transform, wanted: Shaped | None, route: str) -> np.ndarray | None:
        """The converted array, contiguous; None if it does not fit. ``route``: both names, for messages."""
        try:
            result = transform.forward(array)
        except (ValueError, TypeError, IndexError) as error:
            expected = "" if wanted is None else f"; expected {tuple(wanted.shape)}"
            what = f"{transform.name} does not take {array.dtype} {array.shape}"
            self.problems.append(f"shape: {route}: {what} ({error}){expected}")
            return None
        # Not ascontiguousarray, which would convert a scalar to a vector.
        result = np.asarray(result, order="C")
        if transform is COUNTER and array.dtype != np.int64:
            self.cast[str(array.dtype), "int64"] += 1
        if wanted is None:
            return result
        if result.shape != tuple(wanted.shape):
            becomes = f"{array.shape} becomes {result.shape} by {transform.name}"
            self.problems.append(f"shape: {route}: {becomes}; expected {tuple(wanted.shape)}")
            return None
        return result if result.dtype == wanted.dtype else self._cast(result, wanted.dtype, route)

    def _cast(self, array: np.ndarray, dtype: np.dtype, route: str) -> np.ndarray | None:
        dtypes = str(array.dtype), str(dtype)
        floats = _is_float(array.dtype) and _is_float(dtype)
        if not floats or not (self.narrows or np.can_cast(array.dtype, dtype, "safe")):
            self.dtypes[dtypes].append(route)
            return None
        with np.errstate(over="ignore"):
            result = array.astype(dtype)
        if not np.array_equal(np.isfinite(array), np.isfinite(result)):
            self.problems.append(f"range: {route}: {dtypes[0]} numbers that {dtypes[1]} cannot represent")
            return None
        self.cast[dtypes] += 1
        return result

    def check(self) -> None:
        """Raises ConversionError if there was any problem."""
        for (found, wanted), routes in self.dtypes.items():
            more = f" and {len(routes) - 1} more" if len(routes) > 1 else ""
            self.problems.append(f"dtype: {routes[0]}{more}: {found}; expected {wanted}")
        if self.problems:
            raise ConversionError(self.problems)


def _is_float(dtype: np.dtype) -> bool:
    return np.issubdtype(dtype, np.floating) or dtype == ml_dtypes.bfloat16

"""Durations in steps or epochs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Union

_TEXT = re.compile(r"\s*([0-9.eE+-]+)\s*(step|epoch)s?\s*")


@dataclass(frozen=True)
class Steps:
    """A number of steps. A step is a batch."""

    count: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "count", round(_number(self, self.count)))

    def steps(self, steps_per_epoch: int) -> int:
        """The duration in steps."""
        return self.count

    def __str__(self) -> str:
        return f"{self.count} step{'' if self.count == 1 else 's'}"


@dataclass(frozen=True)
class Epochs:
    """A number of passes through the training set; may be fractional."""

    count: float

    def __post_init__(self) -> None:
        _number(self, self.count)

    def steps(self, steps_per_epoch: int) -> int:
        """The duration in steps."""
        return round(self.count * steps_per_epoch)

    def __str__(self) -> str:
        return f"{self.count:g} epoch{'' if self.count == 1 else 's'}"


Span = Steps | Epochs
AnySpan = Union[Steps, Epochs, float, str]  # noqa: UP007 - read at run time, to check options


def to_span(value: AnySpan, unit: type[Steps] | type[Epochs], option: str) -> Span:
    """Converts a duration: `Steps` or `Epochs`, text (``"500 steps"``), or a number of ``unit``.

    Raises:
        ValueError: the value is not a duration. The message names the option.
    """
    if isinstance(value, Steps | Epochs):
        return value
    if isinstance(value, str):
        found = _TEXT.fullmatch(value)
        try:
            return (Steps if found[2] == "step" else Epochs)(float(found[1]))  # type: ignore[index,arg-type]
        except (TypeError, ValueError):
            raise ValueError(
                f"{option} must be a number, or text such as '500 steps' or '2 epochs', not {value!r}"
            ) from None
    try:
        return unit(value)  # type: ignore[arg-type]
    except ValueError:
        raise ValueError(f"{option} must be a number of steps or epochs, not {value!r}") from None


def _number(span: object, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{type(span).__name__} takes a number, not {value!r}")
    return value

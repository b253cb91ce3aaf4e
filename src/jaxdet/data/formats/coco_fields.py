"""The optional fields of COCO json files: which values are accepted, and what they mean."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

SIDE_LIMIT = 2**24  # pixels; float32 boxes are exact up to there
COORDINATE_LIMIT = 1e100  # of a detection: the product of two, an area, is finite, too
AREA_LIMIT = 10**10  # of COCO's largest size range: pycocotools ignores objects above it
_NUMBERS = frozenset({int, float})  # as json gives them; true and false are none


class _Field(NamedTuple):
    fits: Callable[[Any], bool]
    expected: str


def is_crowd(entry: Mapping[str, Any]) -> bool:
    """Whether an annotation is a crowd region: ``iscrowd`` 1 or true. Missing and null are 0."""
    return bool(entry.get("iscrowd"))


def stated_size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """The (height, width) that an image's entry gives; None where one of them is missing or null."""
    height, width = entry.get("height"), entry.get("width")
    return None if height is None or width is None else (int(height), int(width))


def finite_box(bbox: Any) -> bool:
    """Whether a value is a list of four finite numbers."""
    return isinstance(bbox, list | tuple) and len(bbox) == 4 and all(map(finite_number, bbox))


def finite_number(value: Any) -> bool:
    """Whether a value is a finite number; true and false are none."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # json has integers of any length
        return False


def is_flag(value: Any) -> bool:
    """Whether a value is 0, 1, false or true."""
    return isinstance(value, int | float) and value in (0, 1)


def optional_misfits(section: str, entries: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, str]]:
    """(position, what is wrong) of the entries of a section with a wrong type or range in an optional field."""
    told: set[int] = set()
    for key, (fits, expected) in _OPTIONAL.get(section, {}).items():
        for number, value in enumerate([entry.get(key) for entry in entries]):
            if value is not None and number not in told and not fits(value):
                told.add(number)
                yield number, f"has {key!r} = {reprlib.repr(value)}; it must be {expected}"


def _is_area(value: Any) -> bool:
    return type(value) in _NUMBERS and 0 <= value <= AREA_LIMIT


def _is_side(value: Any) -> bool:
    return type(value) in _NUMBERS and 1 <= value <= SIDE_LIMIT and int(value) == value


_SIDE = _Field(_is_side, f"a whole number from 1 to {SIDE_LIMIT}, or missing: then it is read from the image")
_OPTIONAL: dict[str, dict[str, _Field]] = {
    "images": {"height": _SIDE, "width": _SIDE},
    "annotations": {
        "iscrowd": _Field(is_flag, "0, 1, false or true, or missing: then it is 0"),
        "area": _Field(_is_area, f"a number from 0 to {AREA_LIMIT:g}, or missing: then it is the box's"),
    },
}

"""Optional fields of COCO json files: accepted values and their meaning."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

SIDE_LIMIT = 2**24  # pixels; float32 boxes are exact up to this
COORDINATE_LIMIT = 1e100  # for detections, so that areas are finite, too
AREA_LIMIT = 10**10  # the limit of COCO's largest size range; pycocotools ignores larger objects
_NUMBERS = frozenset({int, float})  # types of json numbers, without bool


class _Field(NamedTuple):
    fits: Callable[[Any], bool]
    expected: str


def is_crowd(entry: Mapping[str, Any]) -> bool:
    """Whether an annotation is a crowd region: ``iscrowd`` is 1 or true. Missing or null is 0."""
    return bool(entry.get("iscrowd"))


def stated_size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """The (height, width) of an image's entry; None if one of them is missing or null."""
    height, width = entry.get("height"), entry.get("width")
    return None if height is None or width is None else (int(height), int(width))


def finite_box(bbox: Any) -> bool:
    """Whether a value is a list of four finite numbers."""
    return isinstance(bbox, list | tuple) and len(bbox) == 4 and all(map(finite_number, bbox))


def finite_number(value: Any) -> bool:
    """Whether a value is a finite number, and not a bool."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # json integers may have any length
        return False


def is_flag(value: Any) -> bool:
    """Whether a value is 0, 1, false or true."""
    return isinstance(value, int | float) and value in (0, 1)


def optional_misfits(section: str, entries: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, str]]:
    """(position, problem) of the entries of a section with a wrong type or range in an optional field."""
    reported: set[int] = set()
    for key, (fits, expected) in _OPTIONAL.get(section, {}).items():
        for number, value in enumerate([entry.get(key) for entry in entries]):
            if value is not None and number not in reported and not fits(value):
                reported.add(number)
                yield number, f"has {key!r} = {reprlib.repr(value)}; it must be {expected}"


def _is_area(value: Any) -> bool:
    return type(value) in _NUMBERS and 0 <= value <= AREA_LIMIT


def _is_side(value: Any) -> bool:
    return type(value) in _NUMBERS and 1 <= value <= SIDE_LIMIT and int(value) == value


_SIDE = _Field(_is_side, f"a whole number from 1 to {SIDE_LIMIT}, or missing (read from the image)")
_OPTIONAL: dict[str, dict[str, _Field]] = {
    "images": {"height": _SIDE, "width": _SIDE},
    "annotations": {
        "iscrowd": _Field(is_flag, "0, 1, false or true, or missing (0)"),
        "area": _Field(_is_area, f"a number from 0 to {AREA_LIMIT:g}, or missing (that of the box)"),
    },
}

"""Checking annotated boxes and packing them into arrays. Boxes are xyxy in pixels of the upright image."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxdet.data.faults import FaultKind, Problem
from jaxdet.data.objects import Objects

EDGE_TOLERANCE = 1.0  # pixels by which boxes may exceed their image without being faulty
_SMALLEST = float(np.finfo(np.float32).tiny)  # smaller numbers become 0 on most devices
_NUMBERS = frozenset({int, float})  # types of json numbers, without bool
_NARROW = 2.0**-22  # twice the relative spacing of float32; greater relative lengths do not become 0


def from_xywh(box: Any, key: str) -> tuple[float, float, float, float] | Problem:
    """Converts [x, y, width, height] of a json file to xyxy, or returns the problem. `clean_box` checks for infinities.

    Args:
        key: the key of the box in its file, for the message.
    """
    if isinstance(box, list) and len(box) == 4 and _NUMBERS.issuperset(map(type, box)):
        try:
            x, y, width, height = map(float, box)
            return x, y, x + width, y + height
        except OverflowError:  # json integers may have any length
            pass
    return Problem(FaultKind.MALFORMED_BOX, f"{key} {reprlib.repr(box)} is not four numbers")


def clean_box(box: Sequence[float], size: tuple[int, int]) -> list[float] | Problem:
    """Checks one xyxy box against its image.

    Args:
        box: four numbers (x1, y1, x2, y2) in pixels.
        size: the image's (height, width).

    Returns:
        The box clipped to the image, or its problem. Boxes may exceed the image by `EDGE_TOLERANCE`, as in rounded and
        one-based annotations.
    """
    x1, y1, x2, y2 = box
    height, width = size
    if not (math.isfinite(x1) and math.isfinite(y1) and math.isfinite(x2) and math.isfinite(y2)):
        return Problem(FaultKind.NON_FINITE_BOX, f"{_shown(box)} is not finite")
    if x2 <= x1 or y2 <= y1:
        text = f"{_shown(box)} has no area: {x2 - x1:g} wide, {y2 - y1:g} high"
        return Problem(FaultKind.DEGENERATE_BOX, text)
    beyond = max(-x1, -y1, x2 - width, y2 - height)
    if beyond > EDGE_TOLERANCE:
        text = f"{_shown(box)} exceeds the {width} x {height} image by {beyond:g} px"
        return Problem(FaultKind.OUTSIDE_BOX, text)
    x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    if _vanishes(x1, x2) or _vanishes(y1, y2):
        return Problem(FaultKind.DEGENERATE_BOX, f"{_shown(box)} has no area within the {width} x {height} image")
    return [x1, y1, x2, y2]


def clip_box(box: Sequence[float], size: tuple[int, int]) -> list[float] | Problem:
    """`clean_box` for boxes of whole objects, which may exceed their image by any amount and are clipped to it.

    A box that is entirely outside of the image is still faulty.
    """
    found = clean_box(box, size)
    if isinstance(found, Problem) and found.kind is FaultKind.OUTSIDE_BOX:
        inside = clean_box(_clipped(box, size), size)
        return found if isinstance(inside, Problem) else inside
    return found


def clip_region(box: Sequence[float], size: tuple[int, int]) -> list[float] | Problem:
    """`clean_box` for ignored regions: they may exceed the image, and regions without area are only a warning."""
    found = clean_box(box, size)
    if isinstance(found, Problem) and found.kind is FaultKind.OUTSIDE_BOX:
        found = clean_box(_clipped(box, size), size)
    if isinstance(found, Problem) and found.kind is FaultKind.DEGENERATE_BOX:
        return Problem(FaultKind.EMPTY_REGION, f"{found.text}; this ignored region has no effect")
    return found


def pack_boxes(boxes: Sequence[Sequence[float]], labels: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Lists of boxes and labels as arrays [G, 4] float32 and [G] int32; G may be 0."""
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int32).reshape(-1)


def pack_objects(
    boxes: Sequence[Sequence[float]], labels: Sequence[int], ignored: Sequence[Sequence[float]] = ()
) -> Objects:
    """Lists of boxes, labels and ignored regions as arrays."""
    packed, numbers = pack_boxes(boxes, labels)
    return Objects(boxes=packed, labels=numbers, ignored=pack_boxes(ignored, ())[0])


def _clipped(box: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box
    height, width = size
    return max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height)


def _vanishes(low: float, high: float) -> bool:
    """Whether a length is zero in float32, the dtype of boxes in training."""
    if high - low < _SMALLEST:
        return True
    return high - low <= high * _NARROW and bool(np.float32(high) <= np.float32(low))


def _shown(box: Sequence[float]) -> str:
    x1, y1, x2, y2 = box
    return f"box from ({x1:g}, {y1:g}) to ({x2:g}, {y2:g})"

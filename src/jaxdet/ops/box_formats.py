"""Conversion of box formats, including rotated boxes: ``torchvision.ops.box_convert``."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

BOX_FORMATS = ("xyxy", "xywh", "cxcywh", "xywhr", "cxcywhr", "xyxyxyxy")


def box_convert(boxes: Array, in_fmt: str, out_fmt: str) -> Array:
    """Converts boxes between torchvision's formats. Boxes are independent, so that NaN in padded slots does not spread.

    ``xyxy``: corners; ``xywh``: top left corner and size; ``cxcywh``: centre and size. ``xywhr`` and ``cxcywhr`` add
    the rotation about the centre in degrees, counter-clockwise in the image; the corner of ``xywhr`` is the rotated
    one. ``xyxyxyxy``: the rotated corners top left, top right, bottom right, bottom left.

    Args:
      boxes: ``[..., K]``, with K = 4, 5 or 8 according to the format.
      in_fmt: format of ``boxes``.
      out_fmt: format of the result.

    Returns:
      ``[..., K']``. Integer boxes are treated as in torchvision: conversions of rotated boxes round to integers, and
      halved centres or sizes are floats.

    Raises:
      ValueError: an unknown format, ``boxes`` of another shape, or only one of the formats is rotated.
    """
    boxes = jnp.asarray(boxes)
    for fmt in (in_fmt, out_fmt):
        if fmt not in BOX_FORMATS:
            raise ValueError(f"box_convert: unknown format {fmt!r}; the formats are {', '.join(BOX_FORMATS)}.")
    rotated = in_fmt in _TO_XYWHR
    if rotated != (out_fmt in _TO_XYWHR):
        raise ValueError(
            f"box_convert: no conversion from {in_fmt} to {out_fmt}, as one is rotated and the other is not; "
            "convert between rotated formats or between axis-aligned ones."
        )
    if boxes.ndim == 0 or boxes.shape[-1] != _numbers(in_fmt):
        raise ValueError(f"box_convert: {in_fmt} boxes are [..., {_numbers(in_fmt)}], got {boxes.shape}.")
    if in_fmt == out_fmt:
        return boxes
    if not rotated:
        through, back = _TO_XYXY[in_fmt], _FROM_XYXY[out_fmt]
        return back(through(boxes))
    # Through the rotated corner, rounding integers at each step, as torchvision does.
    to_corner, from_corner = _TO_XYWHR[in_fmt], _FROM_XYWHR[out_fmt]
    return _in_floats(from_corner, _in_floats(to_corner, boxes))


def _numbers(fmt: str) -> int:
    return {"xywhr": 5, "cxcywhr": 5, "xyxyxyxy": 8}.get(fmt, 4)


def _unpack(boxes: Array) -> list[Array]:
    return [boxes[..., index] for index in range(boxes.shape[-1])]


def _pack(*values: Array) -> Array:
    return jnp.stack(values, axis=-1)


def _same(boxes: Array) -> Array:
    return boxes


def _xywh_to_xyxy(boxes: Array) -> Array:
    x, y, width, height = _unpack(boxes)
    return _pack(x, y, x + width, y + height)


def _xyxy_to_xywh(boxes: Array) -> Array:
    x1, y1, x2, y2 = _unpack(boxes)
    return _pack(x1, y1, x2 - x1, y2 - y1)


def _cxcywh_to_xyxy(boxes: Array) -> Array:
    x, y, width, height = _unpack(boxes)
    return _pack(x - 0.5 * width, y - 0.5 * height, x + 0.5 * width, y + 0.5 * height)


def _xyxy_to_cxcywh(boxes: Array) -> Array:
    x1, y1, x2, y2 = _unpack(boxes)
    return _pack((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)


def _cos_sin(degrees: Array) -> tuple[Array, Array]:
    radians = degrees * math.pi / 180
    return jnp.cos(radians), jnp.sin(radians)


def _cxcywhr_to_xywhr(boxes: Array) -> Array:
    x, y, width, height, angle = _unpack(boxes)
    cos, sin = _cos_sin(angle)
    corner_x = x - width / 2 * cos - height / 2 * sin
    corner_y = y - height / 2 * cos + width / 2 * sin
    return _pack(corner_x, corner_y, width, height, angle)


def _xywhr_to_cxcywhr(boxes: Array) -> Array:
    x, y, width, height, angle = _unpack(boxes)
    cos, sin = _cos_sin(angle)
    centre_x = x + width / 2 * cos + height / 2 * sin
    centre_y = y - width / 2 * sin + height / 2 * cos
    return _pack(centre_x, centre_y, width, height, angle)


def _xywhr_to_corners(boxes: Array) -> Array:
    x1, y1, width, height, angle = _unpack(boxes)
    cos, sin = _cos_sin(angle)
    x2, y2 = x1 + width * cos, y1 - width * sin
    x3, y3 = x2 + height * sin, y2 + height * cos
    x4, y4 = x1 + height * sin, y1 + height * cos
    return _pack(x1, y1, x2, y2, x3, y3, x4, y4)


def _corners_to_xywhr(boxes: Array) -> Array:
    x1, y1, x2, y2, x3, y3, _, _ = _unpack(boxes)
    along = (x2 != x1) | (y2 != y1)  # neither the angle nor the length of a point has a gradient
    angle = jnp.where(along, jnp.arctan2(y1 - y2, jnp.where(along, x2 - x1, 1)), 0) * 180 / math.pi
    return _pack(x1, y1, _length(x2 - x1, y1 - y2), _length(x3 - x2, y3 - y2), angle)


def _length(x: Array, y: Array) -> Array:
    squared = x**2 + y**2
    positive = squared > 0
    # NaN is not positive and has to be kept.
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1)), squared)


def _in_floats(convert: Callable[[Array], Array], boxes: Array) -> Array:
    if convert is _same or jnp.issubdtype(boxes.dtype, jnp.inexact):
        return convert(boxes)
    return jnp.round(convert(boxes.astype(jnp.float32))).astype(boxes.dtype)


_TO_XYXY = {"xyxy": _same, "xywh": _xywh_to_xyxy, "cxcywh": _cxcywh_to_xyxy}
_FROM_XYXY = {"xyxy": _same, "xywh": _xyxy_to_xywh, "cxcywh": _xyxy_to_cxcywh}
_TO_XYWHR = {"xywhr": _same, "cxcywhr": _cxcywhr_to_xywhr, "xyxyxyxy": _corners_to_xywhr}
_FROM_XYWHR = {"xywhr": _same, "cxcywhr": _xywhr_to_cxcywhr, "xyxyxyxy": _xywhr_to_corners}

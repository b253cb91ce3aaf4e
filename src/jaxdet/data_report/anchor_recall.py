"""How well a detector's anchors fit the boxes of a dataset.

Axes: G boxes, L levels, A anchors of a location.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxdet.heads import AnchorGenerator
from jaxdet.nn.masking import strided

_CHUNK = 1 << 16  # boxes at once, which bounds the memory that a dataset of any size takes


@dataclass(frozen=True)
class AnchorRecall:
    """Which part of some boxes has an anchor with an IoU of at least each of the thresholds."""

    name: str
    boxes: int
    recalls: tuple[float, ...]  # 0..1, one a threshold


def recall_of(name: str, ious: np.ndarray, thresholds: Sequence[float]) -> AnchorRecall:
    """The recall of boxes whose best anchors have these IoUs ``[G]``; of no boxes it is 1."""
    recalls = tuple(float((ious >= threshold).mean()) if len(ious) else 1.0 for threshold in thresholds)
    return AnchorRecall(name, len(ious), recalls)


def best_anchor_ious(
    boxes: np.ndarray, extents: np.ndarray, generator: AnchorGenerator, strides: Sequence[int]
) -> np.ndarray:
    """The IoU of each box with the anchor that fits it best.

    Anchors of one shape differ in their places alone, and the overlap with a box falls with the distance of the centres
    on either axis. So the best of each shape is the one whose centre is nearest, and no other is looked at.

    Args:
        boxes: [G, 4] xyxy in pixels of the model's input, each with an area.
        extents: [G, 2] (height, width) of the images that they are on, rounded up to multiples of 32.
        strides: of the levels that the generator has anchors for.

    Returns:
        [G] float64.
    """
    best = np.zeros(len(boxes))
    for start in range(0, len(boxes), _CHUNK):
        part = slice(start, start + _CHUNK)
        for cell, stride in zip(generator.cell_anchors, strides, strict=True):
            found = _best_of_level(boxes[part].astype(np.float64), extents[part], cell.astype(np.float64), stride)
            best[part] = np.maximum(best[part], found)
    return best


def _best_of_level(boxes: np.ndarray, extents: np.ndarray, cell: np.ndarray, stride: int) -> np.ndarray:
    grid = np.asarray(strided(extents, stride))  # type: ignore[arg-type]  # as many anchors down and right
    step = extents // grid  # between them, as `AnchorGenerator` says
    overlap = np.ones((len(boxes), len(cell)))
    areas, cell_areas = np.ones(len(boxes)), np.ones(len(cell))
    for axis in (0, 1):  # x, and height and width the other way round
        low, high = boxes[:, axis], boxes[:, axis + 2]  # [G]
        cell_low, cell_high = cell[:, axis], cell[:, axis + 2]  # [A]
        steps, count = step[:, 1 - axis, None], grid[:, 1 - axis, None]  # [G, 1]
        between = ((low + high) / 2)[:, None] - ((cell_low + cell_high) / 2)[None]  # [G, A]
        place = np.clip(np.rint(between / steps), 0, count - 1) * steps
        shared = np.minimum(high[:, None], cell_high + place) - np.maximum(low[:, None], cell_low + place)
        overlap *= np.maximum(shared, 0)
        areas *= high - low
        cell_areas *= cell_high - cell_low
    return (overlap / (areas[:, None] + cell_areas - overlap)).max(axis=1)

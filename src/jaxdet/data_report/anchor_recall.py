"""How well a detector's anchors fit the boxes of a dataset.

Axes: G boxes, A anchors per location.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxdet.heads import AnchorGenerator
from jaxdet.nn.masking import strided

_CHUNK = 1 << 16  # boxes processed at once, which bounds the memory for datasets of any size


@dataclass(frozen=True)
class AnchorRecall:
    """The fraction of boxes that have an anchor with an IoU of at least each threshold."""

    name: str
    boxes: int
    recalls: tuple[float, ...]  # 0..1, one per threshold


def recall_of(name: str, ious: np.ndarray, thresholds: Sequence[float]) -> AnchorRecall:
    """Recalls from each box's IoU with its best anchor, ``[G]``; 1 if there are no boxes."""
    recalls = tuple(float((ious >= threshold).mean()) if len(ious) else 1.0 for threshold in thresholds)
    return AnchorRecall(name, len(ious), recalls)


def best_anchor_ious(
    boxes: np.ndarray, extents: np.ndarray, generator: AnchorGenerator, strides: Sequence[int]
) -> np.ndarray:
    """The IoU of each box with its best anchor.

    Anchors of one shape differ only in position, and their overlap with a box falls with the distance between the
    centres on either axis. The best anchor of each shape is therefore the nearest one, and only that one is computed.

    Args:
        boxes: [G, 4] xyxy in pixels of the model's input, of positive area.
        extents: [G, 2] (height, width) of each box's image, rounded up to multiples of 32.
        strides: the strides of the levels that the generator has anchors for.

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
    grid = np.asarray(strided(extents, stride))  # type: ignore[arg-type]  # locations along (y, x)
    step = extents // grid  # pixels between locations, as in `AnchorGenerator`
    overlap = np.ones((len(boxes), len(cell)))
    areas, cell_areas = np.ones(len(boxes)), np.ones(len(cell))
    for axis in (0, 1):  # x, y; extents, grid and step are in (y, x) order
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

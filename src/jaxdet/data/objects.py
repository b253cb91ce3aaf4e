"""The annotated objects of one image.

Boxes are ``(x1, y1, x2, y2)`` in pixels of the image, as continuous coordinates. Axes: G objects, I ignored regions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np

AnyObjects = TypeVar("AnyObjects", bound="Objects")


def no_boxes() -> np.ndarray:
    """[0, 4] float32."""
    return np.zeros((0, 4), np.float32)


@dataclass(frozen=True, kw_only=True)
class Objects:
    """The objects of an image: the annotations of records, examples and ground truth.

    To support another kind of annotation, add a field here and handle it in `select` and `map_boxes`.

    boxes: [G, 4] float32 xyxy.
    labels: [G] int32, 1..K-1.
    ignored: [I, 4] float32 xyxy, regions that are neither object nor background (crowds).
    """

    boxes: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray = field(default_factory=no_boxes)

    @property
    def objects(self) -> Objects:
        """Only the annotations."""
        return Objects(**self.annotations())

    def annotations(self) -> dict[str, Any]:
        """The fields of `Objects`, by name."""
        return {each.name: getattr(self, each.name) for each in fields(Objects)}

    def select(self: AnyObjects, kept: np.ndarray, kept_ignored: np.ndarray | None = None) -> AnyObjects:
        """Selects objects and ignored regions.

        Args:
            kept: [G] bool, or indices of objects.
            kept_ignored: [I] bool, or indices of ignored regions; None: all.
        """
        ignored = self.ignored if kept_ignored is None else self.ignored[kept_ignored]
        return replace(self, boxes=self.boxes[kept], labels=self.labels[kept], ignored=ignored)

    def map_boxes(self: AnyObjects, function: Callable[[np.ndarray], np.ndarray]) -> AnyObjects:
        """Applies a function ``[N, 4] -> [N, 4]`` to the boxes and to the ignored regions."""
        return replace(self, boxes=function(self.boxes), ignored=function(self.ignored))

    def with_area(self: AnyObjects) -> AnyObjects:
        """Removes objects and regions without area."""
        kept, kept_ignored = (
            (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3]) for boxes in (self.boxes, self.ignored)
        )
        return self.select(kept, kept_ignored)

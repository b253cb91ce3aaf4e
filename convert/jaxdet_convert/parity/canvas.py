"""Placing an image on its canvas, and removing the padding from the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxdet.data import canvases, choose_canvas, resize_boxes
from jaxdet.data.batching.canvas import align
from jaxdet.data.transforms import preprocess_to
from jaxdet.inference import collate
from jaxdet.models import Detector
from jaxdet.ops.resize import resized_size
from jaxdet.types import Images


@dataclass(frozen=True, eq=False)
class Placed:
    """An image on the canvas that `jaxdet.predict` would choose.

    Attributes:
        stored: (height, width) of the image as given.
        size: (height, width) of the model's input.
        pixels: ``[h, w, 3]``, the model's input without padding.
        images: a batch with only this image.
        grids: (height, width) of each level's feature map without padding, highest resolution first.
    """

    stored: tuple[int, int]
    size: tuple[int, int]
    pixels: np.ndarray
    images: Images
    grids: list[tuple[int, int]]

    def cut(self, maps: Sequence[Any], scale: int = 1) -> list[np.ndarray]:
        """Maps ``[1, H, W, ...]`` without padding. ``scale``: their size relative to the pyramid's."""
        return [x[0, : scale * h, : scale * w] for x, (h, w) in zip(maps, self.grids, strict=False)]

    def boxes(self, found: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Detections on the host: boxes ``[D, 4]`` in pixels of the image as given, scores and labels ``[D]``."""
        kept = found.valid[0]
        boxes = resize_boxes(found.boxes[0][kept], self.size, self.stored)
        return boxes, found.scores[0][kept], found.labels[0][kept]


def place(model: Detector, image: np.ndarray) -> Placed:
    """An image ``[H, W, 3]`` as the model's input."""
    transform = model.config.transform
    height, width = image.shape[:2]
    size = resized_size(height, width, transform.min_size, transform.max_size, enlarge=transform.enlarge)
    pixels = preprocess_to(image, size, mean=transform.image_mean, std=transform.image_std)
    extent = align(size[0]), align(size[1])
    # Without masking, results depend on the canvas, so that the smallest one is used.
    fast = model.config.canvas == "fast"
    canvas = extent if fast else choose_canvas(size, canvases(transform.min_size, transform.max_size))
    overhang = getattr(model.backbone, "overhang", 0)
    grids = [(-(-extent[0] // s) + overhang, -(-extent[1] // s) + overhang) for s in model.strides.values()]
    return Placed((height, width), size, pixels, collate([pixels], canvas, 1), grids)

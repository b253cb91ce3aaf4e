"""How large an image becomes for the model, and on which canvases it can lie.

A plan chooses canvases by a sizing, and the loader resizes by the same one. Boxes are xyxy in pixels. H W stored
pixels, h w pixels of the model's input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from PIL import Image

from jaxdet.data.batching.canvas import Size, align, canvases, covers
from jaxdet.data.dataset import DataError, Example
from jaxdet.data.transforms import crop, normalize, preprocess_to, resize_boxes
from jaxdet.ops.resize import resized_size


class Sizing(Protocol):
    """What a plan needs of a sizing."""

    @property
    def canvases(self) -> tuple[Size, ...]:
        """All that batches come in, (height, width)."""
        ...

    def largest(self, height: int, width: int) -> Size:
        """The largest (height, width) that a stored image can become; a canvas has to hold it.

        Raises:
            DataError: the image could become one without pixels.
        """
        ...


class DetectionSizing(Sizing, Protocol):
    """What a detector's batches need of a sizing."""

    def apply(
        self,
        example: Example,
        canvas: Size,
        generator: np.random.Generator,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> tuple[np.ndarray, Example]:
        """An image as the model takes it, ``[h, w, 3]`` float32 normalised, and its example with boxes to match."""
        ...


@dataclass(frozen=True)
class ShortestSide:
    """The shorter side becomes one of ``min_sizes``, unless the longer one would exceed ``max_size``.

    As torchvision's ``GeneralizedRCNNTransform`` resizes; of several sizes each image draws one. Its canvas is chosen
    for the largest of them: the plan stays a function of stored sizes, and few programs are compiled.

    square: add the ``max_size`` square to the canvases (see `jaxdet.data.batching.canvas.canvases`).
    enlarge: whether an image smaller than that is enlarged.
    """

    min_sizes: tuple[int, ...]
    max_size: int
    square: bool = False
    enlarge: bool = True

    def __post_init__(self) -> None:
        if not self.min_sizes or min(self.min_sizes) < 1 or self.max_size < 1:
            raise ValueError(f"expected sizes of at least 1 pixel, got {self.min_sizes} and {self.max_size}")

    @property
    def canvases(self) -> tuple[Size, ...]:
        return canvases(max(self.min_sizes), self.max_size, square=self.square)

    def largest(self, height: int, width: int) -> Size:
        smallest = self._resized(height, width, min(self.min_sizes))
        if min(smallest) < 1:
            raise DataError(
                f"an image of {width} x {height} would be resized to {smallest[1]} x {smallest[0]} (width x height), "
                "which has no pixels; remove it or crop it"
            )
        return self._resized(height, width, max(self.min_sizes))

    def apply(
        self,
        example: Example,
        canvas: Size,
        generator: np.random.Generator,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> tuple[np.ndarray, Example]:
        """See `DetectionSizing`; an image that an augmentation gave another shape is made to fit its canvas."""
        number = int(generator.random() * len(self.min_sizes)) if len(self.min_sizes) > 1 else 0
        old = example.image.shape[0], example.image.shape[1]
        new = self._resized(*old, self.min_sizes[number])
        if min(new) < 1 or not covers(canvas, new):
            new = _fit(old, canvas)
        pixels = preprocess_to(example.image, new, mean=mean, std=std)
        return pixels, example.map_boxes(lambda boxes: resize_boxes(boxes, old, new))

    def _resized(self, height: int, width: int, min_size: int) -> Size:
        return resized_size(height, width, min_size, self.max_size, enlarge=self.enlarge)


@dataclass(frozen=True)
class ScaleJitter:
    """Large-scale jitter as in torchvision's detection reference (``ScaleJitter``, then ``FixedSizeCrop``).

    A scale is drawn uniformly, relative to the largest at which the image fits ``size`` (height, width). A larger
    result is cropped to it at a random place, boxes with it; a smaller one lies in the corner of the canvas. The one
    canvas is ``size`` rounded up to multiples of 32.
    """

    scale: tuple[float, float]
    size: Size

    @property
    def canvases(self) -> tuple[Size, ...]:
        return ((align(self.size[0]), align(self.size[1])),)

    def largest(self, height: int, width: int) -> Size:
        return self.size

    def apply(
        self,
        example: Example,
        canvas: Size,
        generator: np.random.Generator,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> tuple[np.ndarray, Example]:
        scale, place = generator.random(2)
        old = example.image.shape[:2]
        ratio = min(self.size[0] / old[0], self.size[1] / old[1])
        ratio *= self.scale[0] + (self.scale[1] - self.scale[0]) * scale
        new = (max(1, int(old[0] * ratio)), max(1, int(old[1] * ratio)))
        # Pillow's filter smooths when it shrinks, as it does in the reference: scales go down to a tenth.
        resized = Image.fromarray(example.image).resize(new[::-1], Image.Resampling.BILINEAR)
        example = replace(
            example.map_boxes(lambda boxes: resize_boxes(boxes, old, new)),
            image=np.asarray(resized),
        )
        # One number places both axes, as in the reference.
        top, left = (int(max(0, side - limit) * place) for side, limit in zip(new, self.size, strict=True))
        example = crop(example, top, left, min(new[0], self.size[0]), min(new[1], self.size[1]))
        return normalize(example.image, mean, std), example


@dataclass(frozen=True)
class SquareCrop:
    """Classifiers' images: ``crop`` pixels high and wide; in evaluation of a shorter side of ``resize``."""

    resize: int
    crop: int

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.resize:
            raise ValueError(f"expected a crop of at least 1 pixel and at most resize={self.resize}, got {self.crop}")

    @property
    def canvases(self) -> tuple[Size, ...]:
        return ((self.crop, self.crop),)

    def largest(self, height: int, width: int) -> Size:
        return self.crop, self.crop


def _fit(size: Size, canvas: Size) -> Size:
    """The largest of the same shape that the canvas holds, of at least one pixel."""
    scale = min(canvas[0] / size[0], canvas[1] / size[1])
    return max(1, math.floor(size[0] * scale)), max(1, math.floor(size[1] * scale))

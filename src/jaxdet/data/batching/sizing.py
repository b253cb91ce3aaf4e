"""Sizings: the size of images as input of a model, and the canvases for it.

A plan chooses canvases by a sizing, and the loader resizes images by the same one. Boxes are xyxy in pixels. Axes: H W
stored pixels, h w pixels after resizing.
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
    """The interface of sizings for a plan."""

    @property
    def canvases(self) -> tuple[Size, ...]:
        """The (height, width) of all canvases."""
        ...

    def largest(self, height: int, width: int) -> Size:
        """The largest (height, width) that a stored image may have after resizing.

        Raises:
            DataError: the resized image might have no pixels.
        """
        ...


class DetectionSizing(Sizing, Protocol):
    """The interface of sizings for a detector's batches."""

    def apply(
        self,
        example: Example,
        canvas: Size,
        generator: np.random.Generator,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> tuple[np.ndarray, Example]:
        """Resizes an example. Returns the normalised image ``[h, w, 3]`` float32 and the example with resized boxes."""
        ...


@dataclass(frozen=True)
class ShortestSide:
    """Resizes the shorter side to one of ``min_sizes``, unless the longer side would exceed ``max_size``.

    As in torchvision's ``GeneralizedRCNNTransform``, one of several sizes is drawn for each image. The canvas is chosen
    for the largest size, so that the plan only depends on stored sizes, and few programs are compiled.

    square: add the ``max_size`` square to the canvases (see `jaxdet.data.batching.canvas.canvases`).
    enlarge: whether smaller images are enlarged.
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
        """See `DetectionSizing`. Images with a shape that an augmentation has changed are resized to fit the canvas."""
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

    A scale is drawn uniformly, relative to the largest scale at which the image fits ``size`` (height, width). Larger
    results are cropped to ``size`` at a random position; smaller ones are in the corner of the canvas. The only canvas
    is ``size`` rounded up to multiples of 32.
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
        # With Pillow's antialiasing filter, as in the reference: scales may be as small as 0.1.
        resized = Image.fromarray(example.image).resize(new[::-1], Image.Resampling.BILINEAR)
        example = replace(
            example.map_boxes(lambda boxes: resize_boxes(boxes, old, new)),
            image=np.asarray(resized),
        )
        # One random number for both axes, as in the reference.
        top, left = (int(max(0, side - limit) * place) for side, limit in zip(new, self.size, strict=True))
        example = crop(example, top, left, min(new[0], self.size[0]), min(new[1], self.size[1]))
        return normalize(example.image, mean, std), example


@dataclass(frozen=True)
class SquareCrop:
    """The sizing of classifiers: ``crop`` pixels high and wide, in evaluation after resizing to ``resize``."""

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
    """The largest size with the same aspect ratio that fits in the canvas, at least one pixel."""
    scale = min(canvas[0] / size[0], canvas[1] / size[1])
    return max(1, math.floor(size[0] * scale)), max(1, math.floor(size[1] * scale))

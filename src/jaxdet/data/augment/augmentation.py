"""Augmentations for detectors and classifiers.

All random draws come from the generator of the image's row, which depends only on the seed, the step and the row, and
not on workers, hosts and restarts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from PIL import Image

from jaxdet.data.augment.photometric import Range, photometric_distort
from jaxdet.data.batching.sizing import ScaleJitter, ShortestSide, Sizing, SquareCrop
from jaxdet.data.dataset import Example
from jaxdet.data.transforms import random_horizontal_flip

_ATTEMPTS = 10  # to find a crop that fits the image, as in torchvision


class DetectionTransform(Protocol):
    """The image sizes of a detector (`jaxdet.models.DetectorTransform`)."""

    @property
    def min_size(self) -> int: ...

    @property
    def max_size(self) -> int: ...

    @property
    def enlarge(self) -> bool: ...


class ClassificationTransform(Protocol):
    """The image sizes of a classifier (`jaxdet.backbones.ClassifierTransform`)."""

    @property
    def resize(self) -> int: ...

    @property
    def crop(self) -> int: ...


@dataclass(frozen=True)
class Augmentation:
    """Augmentation for detectors, in this order: flip, photometric, extra, resizing.

    flip: probability of a horizontal flip.
    min_sizes: multi-scale training: sizes of the shorter side, one of which is drawn for each image; the longer side is
        at most the model's ``max_size``. (): the model's ``min_size``. The canvas is chosen for the largest size.
    scale_jitter: large-scale jitter (see `jaxdet.data.batching.sizing.ScaleJitter`): lowest and highest scale, such as
        (0.1, 2.0), on one canvas of ``jitter_size`` (height, width). Boxes are clipped to the crop, and boxes outside
        of it are removed. Cannot be combined with ``min_sizes``.
    photometric: probability of each of torchvision's photometric distortions; 0: none. ``brightness``, ``contrast``,
        ``saturation`` and ``hue`` are the ranges of their factors.
    extra: your own functions of an `Example` and the row's generator. They are pickled for workers. They may change
        the shape of the image, which is then resized to fit the canvas.
    """

    flip: float = 0.5
    min_sizes: tuple[int, ...] = ()
    scale_jitter: Range | None = None
    jitter_size: tuple[int, int] = (1024, 1024)
    photometric: float = 0.0
    brightness: Range = (0.875, 1.125)
    contrast: Range = (0.5, 1.5)
    saturation: Range = (0.5, 1.5)
    hue: Range = (-0.05, 0.05)
    extra: tuple[Callable[[Example, np.random.Generator], Example], ...] = ()

    def __post_init__(self) -> None:
        _check_probability("flip", self.flip)
        _check_probability("photometric", self.photometric)
        if self.min_sizes and self.scale_jitter is not None:
            raise ValueError("min_sizes and scale_jitter both set the size of images; give one of them")
        if min((*self.min_sizes, *self.jitter_size)) < 1:
            raise ValueError(f"expected sizes of at least 1 pixel, got {self.min_sizes=}, {self.jitter_size=}")
        if self.scale_jitter is not None:
            _check_range("scale_jitter", self.scale_jitter, 0.0, math.inf, above=True)
        for name in ("brightness", "contrast", "saturation"):
            _check_range(name, getattr(self, name), 0.0, math.inf)
        _check_range("hue", self.hue, -0.5, 0.5)

    def sizing(self, transform: DetectionTransform, *, square: bool = False) -> ShortestSide | ScaleJitter:
        """The sizing of images for a model with this transform; ``square``: see `ShortestSide`."""
        if self.scale_jitter is not None:
            return ScaleJitter(self.scale_jitter, self.jitter_size)
        return ShortestSide(self.min_sizes or (transform.min_size,), transform.max_size, square, transform.enlarge)

    def agrees(self, sizing: Sizing) -> bool:
        """Whether ``sizing`` is one that this augmentation returns for some model."""
        if self.scale_jitter is not None:
            return sizing == ScaleJitter(self.scale_jitter, self.jitter_size)
        if not isinstance(sizing, ShortestSide):
            return False
        return sizing.min_sizes == self.min_sizes if self.min_sizes else len(sizing.min_sizes) == 1

    def __call__(self, example: Example, generator: np.random.Generator) -> Example:
        """Applies all augmentations except the resizing."""
        example = random_horizontal_flip(example, self.flip, generator)
        if self.photometric:
            image = photometric_distort(
                example.image,
                generator,
                self.photometric,
                brightness=self.brightness,
                contrast=self.contrast,
                saturation=self.saturation,
                hue=self.hue,
            )
            example = replace(example, image=image)
        for function in self.extra:
            example = function(example, generator)
        return example


@dataclass(frozen=True)
class ClassAugmentation:
    """Augmentation for classifiers: torchvision's ``RandomResizedCrop`` and ``RandomHorizontalFlip``.

    scale: range of the crop's area, as a fraction of the image's.
    ratio: range of the crop's width / height, whose logarithm is drawn uniformly.
    flip: probability of a horizontal flip.
    """

    scale: Range = (0.08, 1.0)
    ratio: Range = (3 / 4, 4 / 3)
    flip: float = 0.5

    def __post_init__(self) -> None:
        _check_probability("flip", self.flip)
        _check_range("scale", self.scale, 0.0, 1.0, above=True)
        _check_range("ratio", self.ratio, 0.0, math.inf, above=True)

    def sizing(self, transform: ClassificationTransform, *, square: bool = False) -> SquareCrop:
        """The sizing of images for a model with this transform; always square."""
        del square
        return SquareCrop(transform.resize, transform.crop)

    def __call__(self, image: np.ndarray, crop: int, generator: np.random.Generator) -> np.ndarray:
        """A random crop of the image ``[H, W, 3]`` uint8, resized to ``[crop, crop, 3]`` uint8."""
        top, left, height, width = random_crop(image.shape[0], image.shape[1], self.scale, self.ratio, generator)
        part = Image.fromarray(image[top : top + height, left : left + width])
        resized = np.asarray(part.resize((crop, crop), Image.Resampling.BILINEAR))
        return resized[:, ::-1] if generator.random() < self.flip else resized


def random_crop(
    height: int, width: int, scale: Range, ratio: Range, generator: np.random.Generator
) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a random crop, as in torchvision's ``RandomResizedCrop``.

    After ten failed attempts, the largest centre crop with an aspect ratio within ``ratio``.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(_ATTEMPTS):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * generator.random())
        shape = math.exp(low + (high - low) * generator.random())
        wide, tall = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < wide <= width and 0 < tall <= height:
            top, left = generator.random(2)
            return int(top * (height - tall + 1)), int(left * (width - wide + 1)), tall, wide
    wide, tall = width, height
    if width / height < ratio[0]:
        tall = round(width / ratio[0])
    elif width / height > ratio[1]:
        wide = round(height * ratio[1])
    return (height - tall) // 2, (width - wide) // 2, tall, wide


def _check_probability(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"expected {name} to be a probability from 0 to 1, got {value}")


def _check_range(name: str, value: Range, low: float, high: float, *, above: bool = False) -> None:
    """Raises ValueError unless ``value`` is a range within the bounds; ``above``: excluding the lower bound."""
    rising = len(value) == 2 and value[0] <= value[1]
    if not rising or value[0] < low or (above and value[0] <= low) or value[1] > high:
        bounds = f"above {low:g}" if above else f"from {low:g}"
        limit = "" if high == math.inf else f" to {high:g}"
        raise ValueError(f"expected {name} to be a rising pair of numbers {bounds}{limit}, got {value}")

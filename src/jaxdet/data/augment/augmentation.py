"""What training changes about its images at random.

Every draw comes from the generator of the image's row, which depends on the seed, the step and the row alone, so that
workers, hosts and restarts change nothing.
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

_ATTEMPTS = 10  # torchvision's, to find a crop that fits the image


class DetectionTransform(Protocol):
    """The sizes that a detector wants (`jaxdet.models.faster_rcnn.config.DetectorTransform`)."""

    @property
    def min_size(self) -> int: ...

    @property
    def max_size(self) -> int: ...

    @property
    def enlarge(self) -> bool: ...


class ClassificationTransform(Protocol):
    """The sizes that a classifier wants (`jaxdet.backbones.base.ClassifierTransform`)."""

    @property
    def resize(self) -> int: ...

    @property
    def crop(self) -> int: ...


@dataclass(frozen=True)
class Augmentation:
    """For detectors; steps are taken in this order: flip, photometric, extra, and the resizing at last.

    flip: probability of mirroring an image left to right.
    min_sizes: multi-scale training: the shorter side of each image becomes one of these, the longer one at most the
        model's ``max_size``; () is the model's own ``min_size``. The canvas is chosen for the largest of them.
    scale_jitter: large-scale jitter (see `jaxdet.data.batching.sizing.ScaleJitter`), lowest and highest scale, such as
        (0.1, 2.0); one canvas of ``jitter_size`` (height, width). Boxes are clipped to the crop, and those of which
        nothing is left go. Not together with ``min_sizes``.
    photometric: probability of each of torchvision's photometric distortions; 0: none. The ranges of their factors
        are ``brightness``, ``contrast``, ``saturation`` and ``hue``.
    extra: your own functions of an `Example` and the row's generator. Workers receive them pickled. An image that
        comes out in another shape is resized as usual, and shrunk further where it would not fit its canvas.
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
            raise ValueError("min_sizes and scale_jitter both say how large an image becomes; give one of them")
        if min((*self.min_sizes, *self.jitter_size)) < 1:
            raise ValueError(f"expected sizes of at least 1 pixel, got {self.min_sizes=}, {self.jitter_size=}")
        if self.scale_jitter is not None:
            _check_range("scale_jitter", self.scale_jitter, 0.0, math.inf, above=True)
        for name in ("brightness", "contrast", "saturation"):
            _check_range(name, getattr(self, name), 0.0, math.inf)
        _check_range("hue", self.hue, -0.5, 0.5)

    def sizing(self, transform: DetectionTransform, *, square: bool = False) -> ShortestSide | ScaleJitter:
        """How large images become for a model with this transform; ``square``: see `ShortestSide`."""
        if self.scale_jitter is not None:
            return ScaleJitter(self.scale_jitter, self.jitter_size)
        return ShortestSide(self.min_sizes or (transform.min_size,), transform.max_size, square, transform.enlarge)

    def agrees(self, sizing: Sizing) -> bool:
        """Whether this sizing is one that this augmentation can give."""
        if self.scale_jitter is not None:
            return sizing == ScaleJitter(self.scale_jitter, self.jitter_size)
        if not isinstance(sizing, ShortestSide):
            return False
        return sizing.min_sizes == self.min_sizes if self.min_sizes else len(sizing.min_sizes) == 1

    def __call__(self, example: Example, generator: np.random.Generator) -> Example:
        """All but the resizing."""
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
    """For classifiers: torchvision's ``RandomResizedCrop`` and ``RandomHorizontalFlip``.

    scale: range of the crop's area, as a part of the image's.
    ratio: range of the crop's width over its height, drawn uniformly in its logarithm.
    flip: probability of mirroring left to right.
    """

    scale: Range = (0.08, 1.0)
    ratio: Range = (3 / 4, 4 / 3)
    flip: float = 0.5

    def __post_init__(self) -> None:
        _check_probability("flip", self.flip)
        _check_range("scale", self.scale, 0.0, 1.0, above=True)
        _check_range("ratio", self.ratio, 0.0, math.inf, above=True)

    def sizing(self, transform: ClassificationTransform, *, square: bool = False) -> SquareCrop:
        """How large images become for a model with this transform. They are square in any case."""
        del square
        return SquareCrop(transform.resize, transform.crop)

    def __call__(self, image: np.ndarray, crop: int, generator: np.random.Generator) -> np.ndarray:
        """A random part of the image ``[H, W, 3]`` uint8 as ``[crop, crop, 3]`` uint8."""
        top, left, height, width = random_crop(image.shape[0], image.shape[1], self.scale, self.ratio, generator)
        part = Image.fromarray(image[top : top + height, left : left + width])
        resized = np.asarray(part.resize((crop, crop), Image.Resampling.BILINEAR))
        return resized[:, ::-1] if generator.random() < self.flip else resized


def random_crop(
    height: int, width: int, scale: Range, ratio: Range, generator: np.random.Generator
) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a random crop, as torchvision's ``RandomResizedCrop`` chooses it.

    Ten attempts; then the largest centre part whose shape lies within ``ratio``.
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
    """``above``: the lower bound itself is no value."""
    rising = len(value) == 2 and value[0] <= value[1]
    if not rising or value[0] < low or (above and value[0] <= low) or value[1] > high:
        bounds = f"above {low:g}" if above else f"from {low:g}"
        limit = "" if high == math.inf else f" to {high:g}"
        raise ValueError(f"expected {name} to be a rising pair of numbers {bounds}{limit}, got {value}")

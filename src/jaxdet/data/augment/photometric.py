"""Photometric augmentations, equivalent to torchvision's on PIL images, and to albumentations'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageEnhance

from jaxdet.data.dataset import Example

Range = tuple[float, float]


def photometric_distort(
    image: np.ndarray,
    generator: np.random.Generator,
    probability: float,
    *,
    brightness: Range = (0.875, 1.125),
    contrast: Range = (0.5, 1.5),
    saturation: Range = (0.5, 1.5),
    hue: Range = (-0.05, 0.05),
) -> np.ndarray:
    """torchvision's ``RandomPhotometricDistort``.

    Applies brightness, contrast, saturation, hue and a permutation of the channels, each with the given probability and
    a factor drawn uniformly from its range. Contrast is second or, equally likely, after the hue.

    Args:
        image: [H, W, 3] uint8 RGB.

    Returns:
        [H, W, 3] uint8.
    """
    chosen = generator.random(5) < probability
    factors = [low + (high - low) * generator.random() for low, high in (brightness, contrast, saturation, hue)]
    contrast_first = generator.random() < 0.5
    # Uniform numbers have a stable stream; numpy may change that of its shuffle.
    order = np.argsort(generator.random(3), kind="stable")
    if not chosen.any():
        return image
    pil_image = Image.fromarray(image)
    if chosen[0]:
        pil_image = ImageEnhance.Brightness(pil_image).enhance(factors[0])
    if chosen[1] and contrast_first:
        pil_image = ImageEnhance.Contrast(pil_image).enhance(factors[1])
    if chosen[2]:
        pil_image = ImageEnhance.Color(pil_image).enhance(factors[2])
    if chosen[3]:
        pil_image = adjust_hue(pil_image, factors[3])
    if chosen[1] and not contrast_first:
        pil_image = ImageEnhance.Contrast(pil_image).enhance(factors[1])
    changed = np.asarray(pil_image)
    return np.ascontiguousarray(changed[..., order]) if chosen[4] else changed


def adjust_hue(pil_image: Image.Image, factor: float) -> Image.Image:
    """Shifts the hue of an RGB image by ``factor`` of the full circle, -0.5 to 0.5."""
    hue, saturation, value = pil_image.convert("HSV").split()
    turned = hue.point([(level + int(factor * 255)) % 256 for level in range(256)])
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


@dataclass(frozen=True)
class RGBShift:
    """albumentations' ``RGBShift``: shifts each channel by a random amount, with a probability.

    For `Augmentation.extra`. ``limit``: the range of the shifts, in levels of 0 to 255.
    """

    limit: Range = (-20.0, 20.0)
    probability: float = 0.5

    def __call__(self, example: Example, generator: np.random.Generator) -> Example:
        chosen, *draws = generator.random(4)
        if chosen >= self.probability:
            return example
        return replace(example, image=shift_rgb(example.image, [_within(self.limit, draw) for draw in draws]))


@dataclass(frozen=True)
class BrightnessContrast:
    """albumentations' ``RandomBrightnessContrast``: multiplies and shifts pixels, with a probability.

    For `Augmentation.extra`. Pixels are multiplied by 1 plus a number from the range ``contrast``, and 255 times a
    number from the range ``brightness`` is added.
    """

    brightness: Range = (-0.2, 0.2)
    contrast: Range = (-0.2, 0.2)
    probability: float = 0.5

    def __call__(self, example: Example, generator: np.random.Generator) -> Example:
        chosen, contrast, brightness = generator.random(3)
        if chosen >= self.probability:
            return example
        factor, offset = 1 + _within(self.contrast, contrast), _within(self.brightness, brightness)
        return replace(example, image=adjust_levels(example.image, factor, offset * 255))


def shift_rgb(image: np.ndarray, shifts: Sequence[float]) -> np.ndarray:
    """Adds a shift in levels to each channel of ``[H, W, 3]`` uint8; the result is clipped to 0..255 and truncated."""
    return np.stack([adjust_levels(image[..., channel], 1, shift) for channel, shift in enumerate(shifts)], axis=-1)


def adjust_levels(image: np.ndarray, factor: float, offset: float) -> np.ndarray:
    """uint8 pixels times a factor plus an offset in levels, clipped to 0..255 and truncated.

    Computed in float32 with a table of the 256 levels, as in albumentations up to version 1.3.
    """
    levels = np.arange(256, dtype=np.float32) * np.float32(factor) + np.float32(offset)
    return levels.clip(0, 255).astype(np.uint8)[image]


def _within(limits: Range, draw: float) -> float:
    """Maps a draw from 0 to 1 to a range."""
    return limits[0] + (limits[1] - limits[0]) * draw

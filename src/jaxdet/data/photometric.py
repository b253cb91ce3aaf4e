"""Random changes of colour, with torchvision's numbers on PIL pictures."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageEnhance

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

    Brightness, contrast, saturation, hue and a permutation of the channels, each with the given probability and a
    factor drawn uniformly from its range; contrast comes second or, as often, after the hue.

    Args:
        image: [H, W, 3] uint8 RGB.

    Returns:
        [H, W, 3] uint8.
    """
    chosen = generator.random(5) < probability
    factors = [low + (high - low) * generator.random() for low, high in (brightness, contrast, saturation, hue)]
    contrast_first = generator.random() < 0.5
    # Raw uniform numbers, whose stream is stable, rather than a shuffle, which numpy may change.
    order = np.argsort(generator.random(3), kind="stable")
    if not chosen.any():
        return image
    picture = Image.fromarray(image)
    if chosen[0]:
        picture = ImageEnhance.Brightness(picture).enhance(factors[0])
    if chosen[1] and contrast_first:
        picture = ImageEnhance.Contrast(picture).enhance(factors[1])
    if chosen[2]:
        picture = ImageEnhance.Color(picture).enhance(factors[2])
    if chosen[3]:
        picture = adjust_hue(picture, factors[3])
    if chosen[1] and not contrast_first:
        picture = ImageEnhance.Contrast(picture).enhance(factors[1])
    changed = np.asarray(picture)
    return np.ascontiguousarray(changed[..., order]) if chosen[4] else changed


def adjust_hue(picture: Image.Image, factor: float) -> Image.Image:
    """An RGB picture with its hue turned by ``factor`` of the whole circle, -0.5 to 0.5."""
    hue, saturation, value = picture.convert("HSV").split()
    turned = hue.point([(level + int(factor * 255)) % 256 for level in range(256)])
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")

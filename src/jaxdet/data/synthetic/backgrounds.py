"""Backgrounds of synthetic images."""

from __future__ import annotations

import numpy as np
from PIL import Image


def textured_ground(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A background [H, W, 3] float in 0..255: two muted colours mixed by a random pattern."""
    y, x = np.mgrid[:height, :width].astype(float)
    angle = generator.uniform(0.0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    period = generator.uniform(10.0, 26.0)
    kind = generator.integers(4)
    if kind == 0:
        mix = (along - along.min()) / np.ptp(along)
    elif kind == 1:
        mix = 0.5 + 0.5 * np.tanh(3.0 * np.sin(along * 2 * np.pi / period))
    elif kind == 2:
        mix = 0.5 + 0.5 * np.tanh(4.0 * np.sin(along * np.pi / period) * np.sin(across * np.pi / period))
    else:
        coarse = Image.fromarray(generator.integers(0, 256, (height // 14 + 2, width // 14 + 2)).astype(np.uint8))
        mix = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) / 255.0
    first = generator.uniform(70.0, 215.0) + generator.normal(0.0, 16.0, 3)
    second = first + generator.choice((-1.0, 1.0)) * generator.uniform(16.0, 48.0) + generator.normal(0.0, 8.0, 3)
    colours = first + mix[..., None] * (second - first)
    return colours + generator.normal(0.0, generator.uniform(2.0, 8.0), (height, width, 1))

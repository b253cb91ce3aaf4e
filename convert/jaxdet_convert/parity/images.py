"""Generated images for comparisons."""

from __future__ import annotations

import numpy as np


def smooth_image(seed: int, height: int, width: int) -> np.ndarray:
    """A random image ``[height, width, 3]`` uint8: smooth colours, with some rectangles and ellipses of one colour."""
    from PIL import Image

    rng = np.random.default_rng((seed, height, width))
    cells = (max(2, -(-width // 24)), max(2, -(-height // 24)))
    noise = Image.fromarray(rng.integers(0, 256, (cells[1], cells[0], 3), dtype=np.uint8))
    image = np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC)).copy()
    y, x = np.mgrid[:height, :width]
    for number in range(8):
        centre, radius = rng.uniform((0, 0), (height, width)), rng.uniform(0.05, 0.3, 2) * min(height, width)
        offset = np.abs(np.stack([y - centre[0], x - centre[1]])) / np.maximum(radius, 1)[:, None, None]
        inside = (offset.max(0) < 1) if number % 2 else ((offset**2).sum(0) < 1)
        image[inside] = rng.integers(0, 256, 3)
    return image

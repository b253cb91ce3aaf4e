"""Colour statistics of datasets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxdet.data.images import read_image

MOST_IMAGES = 1000

Triple = tuple[float, float, float]


def mean_and_std(paths: Sequence[str]) -> tuple[Triple, Triple]:
    """Mean and standard deviation of red, green and blue for values in 0..1, averaged over the images.

    At most `MOST_IMAGES` images, evenly spread over the list, are decoded.

    Raises:
        DataError: an image is missing or cannot be read.
    """
    count = min(len(paths), MOST_IMAGES)
    chosen = [paths[index * len(paths) // count] for index in range(count)]
    found = np.zeros((2, 3))
    for path in chosen:
        pixels = read_image(path).reshape(-1, 3) / 255
        found += np.stack([pixels.mean(0), pixels.std(0)])
    mean, std = (found / count).tolist()
    return tuple(mean), tuple(std)

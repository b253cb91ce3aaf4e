"""Rows of a classifier's batches: decoded and cropped images with labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from jaxdet.data.augment.augmentation import ClassAugmentation
from jaxdet.data.batching.canvas import Size
from jaxdet.data.batching.detection_rows import as_arrays
from jaxdet.data.batching.sizing import SquareCrop
from jaxdet.data.formats.class_folder import ClassificationDataset
from jaxdet.data.transforms import centre_crop, normalize
from jaxdet.types import Images

NO_LABEL = -1  # the label of an empty row


@dataclass(frozen=True)
class ClassificationRows:
    """Rows of `Images` of ``sizing.crop`` pixels and labels. Without augmentation, images are cropped at the centre."""

    dataset: ClassificationDataset
    sizing: SquareCrop
    augmentation: ClassAugmentation | None
    mean: Sequence[float]
    std: Sequence[float]

    def allocate(self, canvas: Size, count: int) -> tuple[Images, np.ndarray]:
        """``count`` empty rows, with zero pixels and label -1, in numpy arrays."""
        pixels = np.zeros((count, *canvas, 3), np.float32)
        sizes = np.tile(np.array(canvas, np.int32), (count, 1))
        return Images(*as_arrays(pixels, sizes)), np.full(count, NO_LABEL, np.int32)

    def fill(self, images: Images, labels: np.ndarray, row: int, index: int, generator: np.random.Generator) -> None:
        """Loads image ``index`` of the dataset into a row. Raises DataError if it cannot be read."""
        example = self.dataset[index]
        if self.augmentation is None:
            image = centre_crop(example.image, self.sizing.resize, self.sizing.crop, self.mean, self.std)
        else:
            image = normalize(self.augmentation(example.image, self.sizing.crop, generator), self.mean, self.std)
        cast(np.ndarray, images.pixels)[row] = image
        labels[row] = example.label

"""Rows of a detector's batches: decoded, augmented and resized images with padded boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from jaxdet.data.augment.augmentation import Augmentation
from jaxdet.data.batching.canvas import Size
from jaxdet.data.batching.sizing import DetectionSizing
from jaxdet.data.dataset import DataError, DetectionDataset, Example
from jaxdet.types import Images, Targets

_SLOTS = 8  # the number of slots is a multiple of this, so that similar datasets share compiled programs


@dataclass(frozen=True)
class DetectionRows:
    """Rows of `Images` and `Targets` with ``max_boxes`` slots; ignored regions follow the boxes."""

    dataset: DetectionDataset
    sizing: DetectionSizing
    augmentation: Augmentation
    max_boxes: int
    mean: Sequence[float]
    std: Sequence[float]

    def allocate(self, canvas: Size, count: int) -> tuple[Images, Targets]:
        """``count`` empty rows, with size 0 and no boxes, in numpy arrays."""
        pixels = np.zeros((count, *canvas, 3), np.float32)
        sizes = np.zeros((count, 2), np.int32)
        boxes = np.zeros((count, self.max_boxes, 4), np.float32)
        labels = np.zeros((count, self.max_boxes), np.int32)
        valid, ignored = (np.zeros((count, self.max_boxes), bool) for _ in range(2))
        return Images(*as_arrays(pixels, sizes)), Targets(*as_arrays(boxes, labels, valid, ignored))

    def fill(self, images: Images, targets: Targets, row: int, index: int, generator: np.random.Generator) -> None:
        """Loads image ``index`` of the dataset into a row.

        Raises:
            DataError: the image cannot be read, or has more boxes than there are slots.
        """
        check_box_count(self.dataset, index, self.max_boxes)
        example = self._augmented(self.dataset[index], generator)
        pixels, sizes, boxes, labels, valid, ignored = cast(
            "tuple[np.ndarray, ...]",
            (images.pixels, images.sizes, targets.boxes, targets.labels, targets.valid, targets.ignored),
        )
        image, example = self.sizing.apply(example, pixels.shape[1:3], generator, self.mean, self.std)
        height, width = image.shape[:2]
        pixels[row, :height, :width] = image
        sizes[row] = height, width
        found = len(example.labels)
        filled = found + len(example.ignored)
        boxes[row, :filled] = np.concatenate([example.boxes, example.ignored])
        labels[row, :found] = example.labels
        valid[row, :found] = True
        ignored[row, found:filled] = True

    def _augmented(self, example: Example, generator: np.random.Generator) -> Example:
        changed = self.augmentation(example, generator)
        if self.augmentation.extra:
            problem = _problem(changed, self.max_boxes, len(self.dataset.names))
            if problem:
                raise DataError(f"{example.path}: image {example.image_id}: an extra augmentation {problem}")
        return changed


def box_slots(dataset: DetectionDataset) -> int:
    """The number of slots for the image with the most boxes, rounded up to a multiple of 8, and at least 8."""
    return max(_SLOTS, -(-_fullest(dataset) // _SLOTS) * _SLOTS)


def check_box_count(dataset: DetectionDataset, index: int, max_boxes: int) -> None:
    """Raises DataError if an image has more boxes and ignored regions than slots."""
    record = dataset.records[index]
    boxes, ignored = len(record.labels), len(record.ignored)
    if boxes + ignored > max_boxes:
        regions = f" and {ignored} ignored regions" if ignored else ""
        raise DataError(
            f"{record.path}: image {record.image_id} has {boxes} boxes{regions}, more than max_boxes={max_boxes}; "
            f"raise max_boxes to at least {_fullest(dataset)}"
        )


def as_arrays(*arrays: np.ndarray) -> Any:
    """Casts numpy arrays for structures of `jax.Array`; they are put on devices later."""
    return cast(Any, arrays)


def _fullest(dataset: DetectionDataset) -> int:
    return max((len(record.labels) + len(record.ignored) for record in dataset.records), default=0)


def _problem(example: Example, max_boxes: int, num_classes: int) -> str:
    """The problem of an example that an extra augmentation returned; empty if there is none."""
    image, boxes, labels, ignored = example.image, example.boxes, example.labels, example.ignored
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        return f"returned an image {image.dtype} {image.shape}; it has to be uint8 [H, W, 3]"
    if boxes.shape != (len(labels), 4) or ignored.shape != (len(ignored), 4):
        return (
            f"returned boxes {boxes.shape}, labels {labels.shape} and ignored regions {ignored.shape}; they "
            "have to be [G, 4], [G] and [I, 4]"
        )
    if not (np.isfinite(boxes).all() and np.isfinite(ignored).all()):
        return "returned a box that is not finite"
    if not (boxes[:, :2] < boxes[:, 2:]).all():
        return "returned a box without area; leave it out, with its label"
    if not ((labels >= 1) & (labels < num_classes)).all():
        return f"returned labels {np.unique(labels).tolist()}; they have to be from 1 to {num_classes - 1}"
    if len(boxes) + len(ignored) > max_boxes:
        return f"returned {len(boxes) + len(ignored)} boxes, more than max_boxes={max_boxes}; raise max_boxes"
    return ""

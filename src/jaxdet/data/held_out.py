"""Holding out images of a training set as validation set.

The selection depends only on a seed and the ids of the images, so that both parts can be opened independently, on any
machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxdet.data.dataset import DetectionDataset, Example
from jaxdet.data.faults import DataError, Problem
from jaxdet.data.formats.class_folder import ClassificationDataset, LabelledImage

Dataset = DetectionDataset | ClassificationDataset


def held_out(ids: Sequence[int], fraction: float, seed: int) -> np.ndarray:
    """[N] bool, whether each of N images is held out: this fraction, rounded, but at least one image in each part.

    Raises:
        ValueError: the fraction is not between 0 and 1.
        DataError: there are fewer than two images.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"the fraction of images to hold out must be between 0 and 1, not {fraction:g}")
    if len(ids) < 2:
        raise DataError(f"a set of {len(ids)} images cannot be split; at least two are needed")
    count = min(max(round(len(ids) * fraction), 1), len(ids) - 1)
    ranks = [hashlib.sha256(f"{seed}:{image_id}".encode()).digest() for image_id in ids]
    chosen = np.zeros(len(ids), bool)
    chosen[sorted(range(len(ids)), key=ranks.__getitem__)[:count]] = True
    return chosen


def subset(dataset: Dataset, keep: np.ndarray, *, skip_faulty: bool) -> Dataset:
    """The images of a dataset for which ``keep`` [N] is true. Its faults are those of the whole dataset.

    Raises:
        DataError: the dataset has faults that are not skipped.
    """
    indices = np.flatnonzero(keep).tolist()
    if isinstance(dataset, ClassificationDataset):
        return _ClassificationSubset(dataset, indices)
    return _DetectionSubset(dataset, indices, skip_faulty=skip_faulty)


def image_ids(dataset: Dataset) -> Sequence[int]:
    """The ids of the images of a detection dataset, or the positions of labelled images."""
    return dataset.image_ids if isinstance(dataset, DetectionDataset) else range(len(dataset))


class _DetectionSubset(DetectionDataset):
    def __init__(self, whole: DetectionDataset, indices: Sequence[int], *, skip_faulty: bool) -> None:
        self._whole, self._indices = whole, indices
        records = [whole.records[index] for index in indices]
        super().__init__(records, whole.names, whole.category_ids, faults=whole.faults, skip_faulty=skip_faulty)

    def __getitem__(self, index: int) -> Example:
        return self._whole[self._indices[index]]

    def encoded(self, index: int) -> bytes:
        return self._whole.encoded(self._indices[index])

    def own_ground_truth(self) -> dict[str, Any] | None:
        content = self._whole.own_ground_truth()
        if content is None:
            return None
        ids = set(self.image_ids)
        images = [entry for entry in content["images"] if entry["id"] in ids]
        annotations = [entry for entry in content["annotations"] if entry["image_id"] in ids]
        return {**content, "images": images, "annotations": annotations}

    def inspect(self, index: int) -> list[Problem]:
        return self._whole.inspect(self._indices[index])

    def places(self, indices: Sequence[int]) -> list[tuple[str, int | None]]:
        return self._whole.places([self._indices[index] for index in indices])


class _ClassificationSubset(ClassificationDataset):
    def __init__(self, whole: ClassificationDataset, indices: Sequence[int]) -> None:
        self._whole, self._indices = whole, indices
        super().__init__([whole.records[index] for index in indices], whole.names, faults=whole.faults)

    def __getitem__(self, index: int) -> LabelledImage:
        return self._whole[self._indices[index]]

    def encoded(self, index: int) -> bytes:
        return self._whole.encoded(self._indices[index])

    def inspect(self, index: int) -> list[Problem]:
        return self._whole.inspect(self._indices[index])

    def places(self, indices: Sequence[int]) -> list[tuple[str, int | None]]:
        return self._whole.places([self._indices[index] for index in indices])

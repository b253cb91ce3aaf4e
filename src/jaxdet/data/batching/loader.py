"""Loading batches in the background, with threads or worker processes.

Batch ``step`` is a function of the dataset, the plan and ``step``; random draws in a row depend only on (seed, step,
row). Batches do not depend on the number of threads, workers and hosts, or on restarts.

Axes: B images of this host, H W canvas, G padded ground-truth boxes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxdet.data.augment.augmentation import Augmentation, ClassAugmentation
from jaxdet.data.batching.canvas import Size
from jaxdet.data.batching.classification_rows import ClassificationRows
from jaxdet.data.batching.detection_rows import DetectionRows, box_slots, check_box_count
from jaxdet.data.batching.plan import NO_IMAGE, Plan
from jaxdet.data.batching.sizing import ScaleJitter, ShortestSide, SquareCrop
from jaxdet.data.batching.workers import read_ahead
from jaxdet.data.dataset import DataError, DetectionDataset
from jaxdet.data.formats.class_folder import ClassificationDataset
from jaxdet.ops.pixels import IMAGENET_MEAN, IMAGENET_STD
from jaxdet.types import Images

_PIXEL_BYTES = 3 * np.dtype(np.float32).itemsize


class LoadedBatch(NamedTuple):
    """The data of one step, in numpy arrays."""

    step: int
    images: Images
    targets: Any  # `Targets` for detectors; labels [B] int32 for classifiers, -1: an empty row
    indices: np.ndarray  # [B] int32 positions in the dataset; -1: an empty row


class Rows(Protocol):
    """Allocates batches and fills their rows, for one kind of model."""

    def allocate(self, canvas: Size, count: int) -> tuple[Images, Any]: ...

    def fill(self, images: Images, targets: Any, row: int, index: int, generator: np.random.Generator) -> None: ...


def load_batch(
    dataset: DetectionDataset | ClassificationDataset,
    plan: Plan,
    step: int,
    *,
    augmentation: Augmentation | ClassAugmentation | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    max_boxes: int | None = None,
    rows: slice | None = None,
) -> LoadedBatch:
    """Loads the images of one step, one after another.

    Args:
        dataset: the dataset of the plan, with boxes or labels.
        plan: a `BatchPlan` or an `EvalPlan`; its sizing sets the size of images.
        augmentation: the augmentation of the plan's sizing; None: none.
        mean, std: normalisation of pixels in 0..1.
        max_boxes: G, for boxes and ignored regions together; by default the largest number in the dataset, rounded up
            to a multiple of 8.
        rows: the rows of the step to load, such as those of a host; by default all.

    Returns:
        Pixels [B, H, W, 3] float32, zero in padding; sizes [B, 2] int32 (height, width). For a detection dataset, boxes
        [B, G, 4] float32 xyxy in pixels of the resized image, followed by ignored regions; other slots are zero,
        neither valid nor ignored. For a classification dataset, labels [B] int32. Empty rows have size 0 and no boxes,
        or label -1.

    Raises:
        DataError: an image cannot be read, or has more than ``max_boxes`` boxes.
        ValueError: dataset, plan and augmentation do not match.
    """
    filler = _make_filler(dataset, plan, augmentation, mean, std, max_boxes)
    return _Load(filler, plan, range(plan.batch_size)[rows or slice(None)])(step)


def load_batches(
    dataset: DetectionDataset | ClassificationDataset,
    plan: Plan,
    start_step: int,
    num_steps: int,
    *,
    augmentation: Augmentation | ClassAugmentation | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    max_boxes: int | None = None,
    rows: slice | None = None,
    workers: int = 0,
    threads: int = 2,
    prefetch: int = 4,
) -> Iterator[LoadedBatch]:
    """The batches of steps ``start_step`` to ``start_step + num_steps - 1``, in order.

    Args:
        workers: number of processes that decode and augment, each one batch at a time; 0: threads of this process.
            They are spawned, so scripts that use workers need the usual ``if __name__ == "__main__":``.
        threads: without workers, the number of batches that are loaded in parallel in the background; 0: each batch is
            loaded on demand.
        prefetch: maximum number of loaded batches, at least one per thread or worker.

    The other arguments, and the batches, are those of `load_batch`. Loading stops when the iterator is closed or
    deleted, and so do workers; threads stop after their current image. Workers also stop when this process is killed.

    Raises:
        DataError: immediately, if an image has more than ``max_boxes`` boxes or the plan is for another dataset; while
            iterating, if an image cannot be read.
        ValueError: immediately, for numbers out of range, if dataset, plan and augmentation do not match, or if shared
            memory is too small for the workers' batches.
    """
    if min(start_step, num_steps, workers, threads) < 0:
        raise ValueError(f"expected no negative number, got {start_step=}, {num_steps=}, {workers=}, {threads=}")
    if plan.num_images != len(dataset):
        raise DataError(
            f"the plan is for {plan.num_images} images, but the dataset has {len(dataset)}; make the plan from "
            "dataset.sizes"
        )
    filler = _make_filler(dataset, plan, augmentation, mean, std, max_boxes)
    if isinstance(filler, DetectionRows):
        for index in range(len(dataset)):
            check_box_count(filler.dataset, index, filler.max_boxes)
    load = _Load(filler, plan, range(plan.batch_size)[rows or slice(None)])
    batches = read_ahead(
        load,
        range(start_step, start_step + num_steps),
        workers=workers,
        threads=threads,
        prefetch=prefetch,
        size=load.largest_bytes(),
    )
    return _iterate(load, batches)


def _iterate(load: _Load, batches: Iterator[LoadedBatch]) -> Iterator[LoadedBatch]:
    try:
        yield from batches
    finally:
        load.stop.set()


class _Load:
    """Loads the batch of a step. Setting ``stop`` aborts loading in threads, but not in other processes."""

    def __init__(self, filler: Rows, plan: Plan, rows: range) -> None:
        self.filler = filler
        self.plan = plan
        self.rows = rows
        self.stop = threading.Event()

    def __call__(self, step: int) -> LoadedBatch:
        batch = self.plan.batch(step)
        images, targets = self.filler.allocate(batch.canvas, len(self.rows))
        for place, row in enumerate(self.rows):
            index = int(batch.indices[row])
            if index == NO_IMAGE:
                continue
            if self.stop.is_set():
                raise RuntimeError("loading was stopped")
            # The first number of the key separates this stream from the plan's, which has 0 there.
            key = np.random.SeedSequence(self.plan.seed, spawn_key=(1, step, row))
            self.filler.fill(images, targets, place, index, np.random.Generator(np.random.PCG64(key)))
        return LoadedBatch(step, images, targets, batch.indices[list(self.rows)])

    def largest_bytes(self) -> int:
        """The size of the largest batch's pixels in bytes."""
        return len(self.rows) * max(height * width for height, width in self.plan.sizing.canvases) * _PIXEL_BYTES

    def __reduce__(self) -> tuple[Any, ...]:
        return _Load, (self.filler, self.plan, self.rows)

    def __repr__(self) -> str:  # used in Grain's messages
        return "load_batch"


def _make_filler(
    dataset: DetectionDataset | ClassificationDataset,
    plan: Plan,
    augmentation: Augmentation | ClassAugmentation | None,
    mean: Sequence[float],
    std: Sequence[float],
    max_boxes: int | None,
) -> Rows:
    sizing = plan.sizing
    if isinstance(dataset, DetectionDataset):
        augmentation = Augmentation(flip=0.0) if augmentation is None else augmentation
        if isinstance(augmentation, ClassAugmentation) or not isinstance(sizing, ShortestSide | ScaleJitter):
            raise ValueError(f"{dataset} has boxes: it needs an Augmentation, and a plan with its sizing, not {sizing}")
        if not augmentation.agrees(sizing):
            raise ValueError(f"the plan has {sizing}, not the sizing of {augmentation}: use augmentation.sizing")
        slots = box_slots(dataset) if max_boxes is None else max_boxes
        return DetectionRows(dataset, sizing, augmentation, slots, tuple(mean), tuple(std))
    if isinstance(augmentation, Augmentation) or not isinstance(sizing, SquareCrop):
        raise ValueError(
            f"{dataset} has labels: it needs a ClassAugmentation, and a plan with a SquareCrop, not {sizing}"
        )
    return ClassificationRows(dataset, sizing, augmentation, tuple(mean), tuple(std))

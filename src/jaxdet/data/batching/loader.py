"""Batches for the model, read ahead by threads or worker processes.

The data position is the step: batch ``step`` is a pure function of the dataset, the plan and ``step``, and what is
random about a row depends on (seed, step, row) only. Number of threads, workers, hosts and restarts change nothing.

Axes: B images of this host, H W canvas, G padded ground truths.
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
    """One step's data, held in numpy arrays."""

    step: int
    images: Images
    targets: Any  # `Targets` of detectors; of classifiers labels [B] int32, -1 a row without an image
    indices: np.ndarray  # [B] int32 positions in the dataset; -1 is a row without an image


class Rows(Protocol):
    """What a kind of model wants in a row of its batches."""

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
    """Decodes and transforms the images of one step, one after the other.

    Args:
        dataset: the dataset that the plan was made for, of boxes or of labels.
        plan: a `BatchPlan` or an `EvalPlan`; its sizing says how large the images become.
        augmentation: what to change at random; None: nothing. The plan's sizing has to be one of its own.
        mean, std: what pixels in 0..1 are normalised with.
        max_boxes: G, for boxes and ignored regions together; by default the most of any image of the dataset, rounded
            up to a multiple of 8.
        rows: which of the step's rows to load: a host's share. By default all.

    Returns:
        Pixels [B, H, W, 3] float32, zero beyond an image's true size; sizes [B, 2] int32 (height, width). Of a
        detection dataset boxes [B, G, 4] float32 xyxy in pixels of the resized image, ignored regions after them, and
        padded slots zero, neither valid nor ignored. Of a classification dataset labels [B] int32. A row without an
        image is of size 0 and without boxes, or of label -1.

    Raises:
        DataError: an image cannot be read, or has more than ``max_boxes`` boxes.
        ValueError: dataset, plan and augmentation do not belong together.
    """
    made = _rows(dataset, plan, augmentation, mean, std, max_boxes)
    return _Load(made, plan, range(plan.batch_size)[rows or slice(None)])(step)


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
        workers: how many processes decode and augment, each whole batches; 0: threads of this process. They are
            started afresh, so a script that loads with workers needs the usual ``if __name__ == "__main__":``.
        threads: without workers: how many batches are worked on at once in the background; 0 loads each when it is
            asked for.
        prefetch: how many batches may lie ready, at least one a thread or worker; each holds its pixels in memory.

    The other arguments, and the batches, are those of `load_batch`. The reading ends, and so do the workers, when the
    iterator is closed or forgotten; in a thread a batch under way is given up after its current image. Workers also
    end when this process is killed.

    Raises:
        DataError: at once, if an image of the dataset has more than ``max_boxes`` boxes or the plan is of another
            dataset; while iterating, if an image cannot be read.
        ValueError: at once, if a number is out of its range, dataset, plan and augmentation do not belong together, or
            the machine's shared memory is too small for the workers' batches.
    """
    if min(start_step, num_steps, workers, threads) < 0:
        raise ValueError(f"expected no negative number, got {start_step=}, {num_steps=}, {workers=}, {threads=}")
    if plan.num_images != len(dataset):
        raise DataError(
            f"the plan was made for {plan.num_images} images but the dataset has {len(dataset)}; "
            "make the plan from dataset.sizes"
        )
    made = _rows(dataset, plan, augmentation, mean, std, max_boxes)
    if isinstance(made, DetectionRows):
        for index in range(len(dataset)):
            check_box_count(made.dataset, index, made.max_boxes)
    load = _Load(made, plan, range(plan.batch_size)[rows or slice(None)])
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
    """Loads steps until it is told to stop; a copy in another process knows nothing of that, and works its step off."""

    def __init__(self, made: Rows, plan: Plan, rows: range) -> None:
        self.made = made
        self.plan = plan
        self.rows = rows
        self.stop = threading.Event()

    def __call__(self, step: int) -> LoadedBatch:
        batch = self.plan.batch(step)
        images, targets = self.made.allocate(batch.canvas, len(self.rows))
        for place, row in enumerate(self.rows):
            index = int(batch.indices[row])
            if index == NO_IMAGE:
                continue
            if self.stop.is_set():
                raise RuntimeError("loading was stopped")
            # The first number of the key keeps this stream apart from the plan's, which has 0 there.
            key = np.random.SeedSequence(self.plan.seed, spawn_key=(1, step, row))
            self.made.fill(images, targets, place, index, np.random.Generator(np.random.PCG64(key)))
        return LoadedBatch(step, images, targets, batch.indices[list(self.rows)])

    def largest_bytes(self) -> int:
        """Of a batch's pixels."""
        return len(self.rows) * max(height * width for height, width in self.plan.sizing.canvases) * _PIXEL_BYTES

    def __reduce__(self) -> tuple[Any, ...]:
        return _Load, (self.made, self.plan, self.rows)

    def __repr__(self) -> str:  # Grain's messages have it
        return "load_batch"


def _rows(
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
            raise ValueError(f"{dataset} has boxes: it takes an Augmentation, and a plan of its sizing, not {sizing}")
        if not augmentation.agrees(sizing):
            raise ValueError(f"the plan has {sizing}, which is not of {augmentation}: make it with augmentation.sizing")
        slots = box_slots(dataset) if max_boxes is None else max_boxes
        return DetectionRows(dataset, sizing, augmentation, slots, tuple(mean), tuple(std))
    if isinstance(augmentation, Augmentation) or not isinstance(sizing, SquareCrop):
        raise ValueError(
            f"{dataset} has labels: it takes a ClassAugmentation, and a plan of a SquareCrop, not {sizing}"
        )
    return ClassificationRows(dataset, sizing, augmentation, tuple(mean), tuple(std))

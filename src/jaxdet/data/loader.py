"""Batches for the model, read ahead by threads.

The data position is the step: batch ``step`` is a pure function of the dataset, the plan and ``step``, and what is
random about a row depends on (seed, step, row) only. Number of threads, hosts and restarts change nothing.

Axes: B images of this host, H W canvas, G padded ground truths.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import grain
import numpy as np

from jaxdet.data.batches import NO_IMAGE, Plan
from jaxdet.data.dataset import DataError, DetectionDataset
from jaxdet.data.transforms import preprocess, random_horizontal_flip, resize_boxes
from jaxdet.ops.pixels import IMAGENET_MEAN, IMAGENET_STD
from jaxdet.types import Images, Targets


class LoadedBatch(NamedTuple):
    """One step's data, held in numpy arrays."""

    step: int
    images: Images
    targets: Targets
    indices: np.ndarray  # [B] int32 positions in the dataset; -1 is a row without an image


def default_max_boxes(dataset: DetectionDataset) -> int:
    """The largest number of boxes on one image of the dataset, rounded up to a multiple of 8, and at least 8."""
    return max(8, -(-dataset.max_boxes // 8) * 8)


def load_batch(
    dataset: DetectionDataset,
    plan: Plan,
    step: int,
    *,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    max_boxes: int | None = None,
    flip: float = 0.0,
    rows: slice | None = None,
    stop: threading.Event | None = None,
) -> LoadedBatch:
    """Decodes and transforms the images of one step, one after the other.

    Args:
        dataset: the dataset whose sizes the plan was made from.
        plan: a `BatchPlan` or an `EvalPlan`.
        mean, std: what pixels in 0..1 are normalised with.
        max_boxes: G; by default `default_max_boxes`.
        flip: the probability of mirroring an image left to right.
        rows: which of the step's rows to load: a host's share. By default all.
        stop: once set, the work is given up with an error between two images.

    Returns:
        Pixels [B, H, W, 3] float32, zero beyond an image's true size; sizes [B, 2] int32 (height, width); boxes
        [B, G, 4] float32 xyxy in pixels of the resized image. Padded slots are zero and not valid. A row without an
        image is a zero image of the canvas's size, without boxes.

    Raises:
        DataError: an image cannot be read, or has more than ``max_boxes`` boxes.
    """
    if max_boxes is None:
        max_boxes = default_max_boxes(dataset)
    batch = plan.batch(step)
    chosen = range(len(batch.indices))[rows or slice(None)]
    count = len(chosen)
    pixels = np.zeros((count, *batch.canvas, 3), np.float32)
    sizes = np.tile(np.array(batch.canvas, np.int32), (count, 1))
    boxes = np.zeros((count, max_boxes, 4), np.float32)
    labels = np.zeros((count, max_boxes), np.int32)
    valid = np.zeros((count, max_boxes), bool)
    for place, row in enumerate(chosen):
        index = int(batch.indices[row])
        if index == NO_IMAGE:
            continue
        if stop is not None and stop.is_set():
            raise RuntimeError("loading was stopped")
        _check_box_count(dataset, index, max_boxes)
        # The first number of the key keeps this stream apart from the plan's, which has 0 there.
        key = np.random.SeedSequence(plan.seed, spawn_key=(1, step, row))
        generator = np.random.Generator(np.random.PCG64(key))
        example = random_horizontal_flip(dataset[index], flip, generator)
        image = preprocess(example.image, plan.min_size, plan.max_size, mean=mean, std=std)
        height, width = image.shape[:2]
        found = len(example.labels)
        pixels[place, :height, :width] = image
        sizes[place] = height, width
        boxes[place, :found] = resize_boxes(example.boxes, example.image.shape[:2], (height, width))
        labels[place, :found] = example.labels
        valid[place, :found] = True
    images = Images(*_as_arrays(pixels, sizes))
    targets = Targets(*_as_arrays(boxes, labels, valid))
    return LoadedBatch(step, images, targets, batch.indices[list(chosen)])


def load_batches(
    dataset: DetectionDataset,
    plan: Plan,
    start_step: int,
    num_steps: int,
    *,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    max_boxes: int | None = None,
    flip: float = 0.0,
    rows: slice | None = None,
    threads: int = 2,
    prefetch: int = 4,
) -> Iterator[LoadedBatch]:
    """The batches of steps ``start_step`` to ``start_step + num_steps - 1``, in order.

    Args:
        threads: how many batches are worked on at once in the background; 0 loads each when it is asked for.
        prefetch: how many batches may lie ready, at least one a thread; each holds its pixels in memory.

    The other arguments, and the batches, are those of `load_batch`. The reading ends when the iterator is closed or
    forgotten; a batch under way is given up after its current image.

    Raises:
        DataError: at once, if an image of the dataset has more than ``max_boxes`` boxes or the plan is of another
            dataset; while iterating, if an image cannot be read.
        ValueError: a number is out of its range.
    """
    if start_step < 0 or num_steps < 0 or threads < 0:
        raise ValueError(f"expected no negative number, got {start_step=}, {num_steps=}, {threads=}")
    if not 0.0 <= flip <= 1.0:
        raise ValueError(f"expected flip to be a probability from 0 to 1, got {flip}")
    if plan.num_images != len(dataset):
        raise DataError(
            f"the plan was made for {plan.num_images} images but the dataset has {len(dataset)}; "
            "make the plan from dataset.sizes"
        )
    if max_boxes is None:
        max_boxes = default_max_boxes(dataset)
    if dataset.max_boxes > max_boxes:
        for index in range(len(dataset)):
            _check_box_count(dataset, index, max_boxes)
    stop = threading.Event()
    load = partial(load_batch, dataset, plan, mean=mean, std=std, max_boxes=max_boxes, flip=flip, rows=rows, stop=stop)
    return _iterate(load, range(start_step, start_step + num_steps), threads, prefetch, stop)


def _iterate(
    load: partial[LoadedBatch], steps: range, threads: int, prefetch: int, stop: threading.Event
) -> Iterator[LoadedBatch]:
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(prefetch, threads) if threads else 0)
    batches = iter(grain.MapDataset.range(steps.start, steps.stop).map(load).to_iter_dataset(options))
    try:
        yield from batches
    finally:
        stop.set()
        batches.close()


def _check_box_count(dataset: DetectionDataset, index: int, max_boxes: int) -> None:
    record = dataset.records[index]
    if len(record.labels) > max_boxes:
        raise DataError(
            f"{record.path}: image {record.image_id} has {len(record.labels)} boxes, more than max_boxes={max_boxes}; "
            f"raise max_boxes to at least {dataset.max_boxes}"
        )


def _as_arrays(*arrays: np.ndarray) -> Any:
    """numpy arrays where the structures say jax.Array: they are put on a device later, by whoever knows which."""
    return cast(Any, arrays)

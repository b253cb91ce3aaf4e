"""The batch plan: which images make up which step, as a pure function of (seed, step).

A plan is computed from the index of image sizes alone, so every host arrives at the same one, whatever its workers
do, and a run continues from any step. N images, B images a batch.

Every step has one canvas. In each epoch the images are shuffled and dealt into batches canvas by canvas, from small
to large. What is left of a canvas (fewer than B images) moves on to the next larger canvas that covers it and is
dealt there. Thus an epoch contains every image once, except the fewer than B that are left on a canvas which no
other covers: with `canvases(min_size, max_size)` that is the largest one of each orientation, with ``square=True``
a single one. Which images these are changes with the epoch.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from jaxdet.data.canvas import choose_canvas, covers
from jaxdet.data.dataset import DataError
from jaxdet.ops.resize import resized_size

NO_IMAGE = -1  # the index of a row that no image fills


@dataclass(frozen=True, eq=False)
class Batch:
    """One step's images."""

    canvas: tuple[int, int]  # (height, width)
    indices: np.ndarray  # [B] int32 positions in the dataset; -1 is a row without an image
    epoch: int


class Plan(Protocol):
    """What the loader needs of a plan."""

    num_images: int
    batch_size: int
    min_size: int
    max_size: int
    seed: int

    def batch(self, step: int) -> Batch: ...


class BatchPlan:
    """The training plan: shuffled epochs without end, every batch full.

    Args:
        sizes: [N, 2] (height, width) of the stored images, as `DetectionDataset.sizes`.
        batch_size: images a step, over all hosts together.
        canvases: the canvases to choose from, as `jaxdet.data.canvas.canvases` gives them.
        min_size, max_size: to what the images are resized (see `jaxdet.ops.resize.resized_size`).
        seed: not negative; another seed gives another order.

    Raises:
        DataError: there are too few images for one batch, or one cannot be resized.
        ValueError: an image fits no canvas, or a number is out of its range.
    """

    def __init__(
        self,
        sizes: np.ndarray,
        batch_size: int,
        canvases: Sequence[tuple[int, int]],
        *,
        min_size: int,
        max_size: int,
        seed: int = 0,
    ) -> None:
        _check_numbers(batch_size, seed)
        self.num_images = len(sizes)
        self.batch_size = batch_size
        self.min_size = min_size
        self.max_size = max_size
        self.seed = seed
        self.canvases = _by_area(canvases)
        self._groups = _assign(sizes, self.canvases, min_size, max_size)
        self._cached: dict[int, list[tuple[int, np.ndarray]]] = {}  # two epochs: threads work across their border
        self._lock = threading.Lock()
        self.steps_per_epoch = len(self._deal(np.arange(self.num_images)))
        if self.steps_per_epoch == 0:
            raise DataError(
                f"{self.num_images} images make no full batch of {batch_size} on any one canvas; use a smaller batch, "
                "more images, or square=True to put both orientations into one batch"
            )

    def batch(self, step: int) -> Batch:
        """The images of ``step`` (from 0). The same for any host, thread and order of calls."""
        if step < 0:
            raise ValueError(f"expected a step of at least 0, got {step}")
        epoch, position = divmod(step, self.steps_per_epoch)
        with self._lock:
            if epoch not in self._cached:
                while len(self._cached) > 1:
                    del self._cached[next(iter(self._cached))]
                self._cached[epoch] = self._epoch(epoch)
            canvas, indices = self._cached[epoch][position]
        return Batch(self.canvases[canvas], indices, epoch)

    def _epoch(self, epoch: int) -> list[tuple[int, np.ndarray]]:
        # Raw 64-bit draws, whose stream numpy guarantees, rather than a shuffle, which it may change.
        bits = np.random.PCG64(np.random.SeedSequence(self.seed, spawn_key=(0, epoch)))
        dealt = self._deal(np.argsort(bits.random_raw(self.num_images), kind="stable"))
        return [dealt[i] for i in np.argsort(bits.random_raw(len(dealt)), kind="stable")]

    def _deal(self, order: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """[(canvas number, indices [B])]; how many does not depend on the order."""
        dealt = []
        waiting: list[list[np.ndarray]] = [[] for _ in self.canvases]
        for number, canvas in enumerate(self.canvases):
            pool = np.concatenate([*waiting[number], order[self._groups[order] == number]]).astype(np.int32)
            full = len(pool) - len(pool) % self.batch_size
            dealt += [(number, pool[i : i + self.batch_size]) for i in range(0, full, self.batch_size)]
            larger = (n for n in range(number + 1, len(self.canvases)) if covers(self.canvases[n], canvas))
            waiting[next(larger, number)].append(pool[full:])
        return dealt


class EvalPlan:
    """The evaluation plan: every image once, by canvas and then by position, the last batch of a canvas filled up.

    Rows without an image have index -1. Arguments and errors as for `BatchPlan`.
    """

    seed = 0

    def __init__(
        self,
        sizes: np.ndarray,
        batch_size: int,
        canvases: Sequence[tuple[int, int]],
        *,
        min_size: int,
        max_size: int,
    ) -> None:
        _check_numbers(batch_size, self.seed)
        self.num_images = len(sizes)
        self.batch_size = batch_size
        self.min_size = min_size
        self.max_size = max_size
        self.canvases = _by_area(canvases)
        groups = _assign(sizes, self.canvases, min_size, max_size)
        self._batches = []
        for number, canvas in enumerate(self.canvases):
            members = np.flatnonzero(groups == number).astype(np.int32)
            filled = np.pad(members, (0, -len(members) % batch_size), constant_values=NO_IMAGE)
            self._batches += [Batch(canvas, row, 0) for row in filled.reshape(-1, batch_size)]
        self.steps_per_epoch = len(self._batches)

    def __len__(self) -> int:
        return self.steps_per_epoch

    def batch(self, step: int) -> Batch:
        """The images of ``step``. Raises IndexError outside 0..len(self) - 1."""
        if not 0 <= step < len(self):
            raise IndexError(f"the evaluation plan has steps 0..{len(self) - 1}, got {step}")
        return self._batches[step]


def eval_plan(
    sizes: np.ndarray, batch_size: int, canvases: Sequence[tuple[int, int]], *, min_size: int, max_size: int
) -> EvalPlan:
    """An `EvalPlan`: every image exactly once."""
    return EvalPlan(sizes, batch_size, canvases, min_size=min_size, max_size=max_size)


def _check_numbers(batch_size: int, seed: int) -> None:
    if batch_size < 1:
        raise ValueError(f"expected a batch size of at least 1, got {batch_size}")
    if seed < 0:
        raise ValueError(f"expected a seed of at least 0, got {seed}")


def _by_area(canvases: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted(set(canvases), key=lambda canvas: (canvas[0] * canvas[1], canvas[0])))


def _assign(sizes: np.ndarray, canvases: tuple[tuple[int, int], ...], min_size: int, max_size: int) -> np.ndarray:
    """[N] the number of each image's canvas."""
    distinct, inverse = np.unique(np.asarray(sizes, np.int64).reshape(-1, 2), axis=0, return_inverse=True)
    numbers = []
    for height, width in distinct.tolist():
        resized = resized_size(height, width, min_size, max_size)
        if min(resized) < 1:
            raise DataError(
                f"an image of {width} x {height} would be resized to {resized[1]} x {resized[0]} (width x height), "
                "which has no pixels; remove it or crop it"
            )
        numbers.append(canvases.index(choose_canvas(resized, canvases)))
    return np.array(numbers, np.int32)[inverse.reshape(-1)]

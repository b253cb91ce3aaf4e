"""The batch plan: the images of each step, as a function of (seed, step).

A plan is computed only from the sizes of images, so that all hosts have the same plan, and a run can resume from any
step. Axes: N images, B images per batch.

Every step has one canvas. In each epoch the images are shuffled and split into batches canvas by canvas, from small to
large. Remaining images of a canvas (fewer than B) move to the next larger canvas that covers it. Thus an epoch contains
every image once, except fewer than B images on each canvas that no other covers: with `ShortestSide` the largest canvas
of each orientation, with ``square=True`` or other sizings a single canvas. These images vary with the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from jaxdet.data.batching.canvas import Size, choose_canvas, covers
from jaxdet.data.batching.sizing import Sizing
from jaxdet.data.dataset import DataError

NO_IMAGE = -1  # the index of an empty row


@dataclass(frozen=True, eq=False)
class Batch:
    """The images of one step."""

    canvas: Size
    indices: np.ndarray  # [B] int32 positions in the dataset; -1: an empty row
    epoch: int


class Plan(Protocol):
    """The interface of plans for the loader."""

    num_images: int
    batch_size: int
    sizing: Sizing
    seed: int

    def batch(self, step: int) -> Batch: ...


class BatchPlan:
    """The training plan: infinitely many shuffled epochs of full batches.

    Args:
        sizes: [N, 2] (height, width) of the stored images, as `DetectionDataset.sizes`; or N, for a sizing with a
            single canvas.
        batch_size: images per step, over all hosts.
        sizing: the size of resized images, and the canvases.
        seed: the seed of the shuffling; not negative.

    Raises:
        DataError: too few images for one batch, or an image that cannot be resized.
        ValueError: a number is out of range, or ``sizes`` is a number although the sizing has several canvases.
    """

    def __init__(self, sizes: np.ndarray | int, batch_size: int, sizing: Sizing, *, seed: int = 0) -> None:
        _check_numbers(batch_size, seed)
        self.batch_size = batch_size
        self.sizing = sizing
        self.seed = seed
        self.canvases = _by_area(sizing)
        self._groups = _assign(sizes, self.canvases, sizing)
        self.num_images = len(self._groups)
        self._cached: dict[int, list[tuple[int, np.ndarray]]] = {}
        self.steps_per_epoch = len(self._deal(np.arange(self.num_images)))
        if self.steps_per_epoch == 0:
            raise DataError(
                f"{self.num_images} images do not fill a batch of {batch_size} on any canvas; use a smaller batch, "
                "more images, or square=True to mix both orientations in a batch"
            )

    def batch(self, step: int) -> Batch:
        """The images of ``step`` (from 0), independent of host, thread and order of calls."""
        if step < 0:
            raise ValueError(f"expected a step of at least 0, got {step}")
        epoch, position = divmod(step, self.steps_per_epoch)
        # Threads may need two neighbouring epochs. The dict is replaced and never modified, so that no lock is needed,
        # which could not be pickled for workers.
        known = self._cached
        dealt = known.get(epoch)
        if dealt is None:
            dealt = self._epoch(epoch)
            self._cached = {near: known[near] for near in known if abs(near - epoch) == 1} | {epoch: dealt}
        canvas, indices = dealt[position]
        return Batch(self.canvases[canvas], indices, epoch)

    def _epoch(self, epoch: int) -> list[tuple[int, np.ndarray]]:
        # numpy guarantees the stream of raw 64-bit draws, but not that of its shuffle.
        bits = np.random.PCG64(np.random.SeedSequence(self.seed, spawn_key=(0, epoch)))
        dealt = self._deal(np.argsort(bits.random_raw(self.num_images), kind="stable"))
        return [dealt[i] for i in np.argsort(bits.random_raw(len(dealt)), kind="stable")]

    def _deal(self, order: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """[(canvas number, indices [B])] for the batches of an epoch; their number does not depend on the order."""
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
    """The evaluation plan: every image once, by canvas and then by position.

    The last batch of a canvas is padded with empty rows (index -1). Arguments and errors are those of `BatchPlan`.
    """

    seed = 0

    def __init__(self, sizes: np.ndarray | int, batch_size: int, sizing: Sizing) -> None:
        _check_numbers(batch_size, self.seed)
        self.batch_size = batch_size
        self.sizing = sizing
        self.canvases = _by_area(sizing)
        groups = _assign(sizes, self.canvases, sizing)
        self.num_images = len(groups)
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


def eval_plan(sizes: np.ndarray | int, batch_size: int, sizing: Sizing) -> EvalPlan:
    """An `EvalPlan`: every image exactly once."""
    return EvalPlan(sizes, batch_size, sizing)


def _check_numbers(batch_size: int, seed: int) -> None:
    if batch_size < 1:
        raise ValueError(f"expected a batch size of at least 1, got {batch_size}")
    if seed < 0:
        raise ValueError(f"expected a seed of at least 0, got {seed}")


def _by_area(sizing: Sizing) -> tuple[Size, ...]:
    return tuple(sorted(set(sizing.canvases), key=lambda canvas: (canvas[0] * canvas[1], canvas[0])))


def _assign(sizes: np.ndarray | int, canvases: tuple[Size, ...], sizing: Sizing) -> np.ndarray:
    """[N] the number of each image's canvas."""
    if isinstance(sizes, int):
        if len(canvases) > 1:
            raise ValueError(f"{sizing} has {len(canvases)} canvases: give the sizes of the images, not their number")
        return np.zeros(sizes, np.int32)
    distinct, inverse = np.unique(np.asarray(sizes, np.int64).reshape(-1, 2), axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    numbers = []
    for number, size in enumerate(distinct.tolist()):
        try:
            numbers.append(canvases.index(choose_canvas(sizing.largest(*size), canvases)))
        except DataError as error:
            raise DataError(f"image {np.argmax(inverse == number)} of the dataset (from 0): {error}") from None
    return np.array(numbers, np.int32)[inverse]

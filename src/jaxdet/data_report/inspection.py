"""Decoding of every image of a dataset, to find unusable images before a run starts."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from PIL import Image
from tqdm.auto import tqdm

from jaxdet.data import ClassificationDataset, DetectionDataset, Fault
from jaxdet.data.batching.workers import follow_parent, leave_unguarded_script, start_worker
from jaxdet.data.faults import Problem

IMAGES_PER_PROCESS = 1024  # fewer images take less time than starting a process
_CHUNK = 16  # images sent to a process at once

Dataset = DetectionDataset | ClassificationDataset


def image_faults(
    dataset: Dataset, *, workers: int | None = None, progress: bool = True, title: str = "images"
) -> list[Fault]:
    """Errors and warnings about a dataset's images, each at the file and line of the image's annotations.

    Args:
        workers: most worker processes, by default one per core; small datasets use fewer. 0 decodes in this process.
            The dataset is pickled for the workers.
    """
    count = len(dataset)
    processes = min(os.cpu_count() or 1 if workers is None else workers, count // IMAGES_PER_PROCESS)
    found: dict[int, list[Problem]] = {}
    results = _in_processes(dataset, processes) if processes else map(dataset.inspect, range(count))
    for index, problems in enumerate(tqdm(results, total=count, desc=title, unit="image", disable=not progress)):
        if problems:
            found[index] = problems
    places = dataset.places(list(found))
    return [
        Fault(problem.kind, file, line, problem.text)
        for (file, line), problems in zip(places, found.values(), strict=True)
        for problem in problems
    ]


def _in_processes(dataset: Dataset, processes: int) -> Iterator[list[Problem]]:
    leave_unguarded_script()
    # Spawned, because JAX's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    start = (dataset, Image.MAX_IMAGE_PIXELS)
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_start, initargs=start)
    try:
        yield from pool.map(_inspect, range(len(dataset)), chunksize=_CHUNK)
    except BrokenProcessPool:
        raise ChildProcessError(
            "a worker process ended: it ran out of memory, or a script started workers outside of "
            '`if __name__ == "__main__":`; workers=0 decodes in this process'
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


_dataset: Dataset  # of a worker process


def _start(dataset: Dataset, limit: int | None) -> None:
    global _dataset
    _dataset = dataset
    start_worker(follow_parent, limit, 0, 0)


def _inspect(index: int) -> list[Problem]:
    return _dataset.inspect(index)

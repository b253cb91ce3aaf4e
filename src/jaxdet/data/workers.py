"""Reading batches ahead, in threads or in worker processes that end with whoever needs them."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import grain
from absl import flags

Element = TypeVar("Element")

_SHARED_BYTES = 1 << 16  # arrays from this size on come from a worker in shared memory, smaller ones through a pipe


def read_ahead(
    load: Callable[[int], Element], steps: range, *, workers: int, threads: int, prefetch: int
) -> Iterator[Element]:
    """``load(step)`` for the steps, in order; closing the iterator ends the work.

    Args:
        load: a pure function; with ``workers`` also one that can be pickled.
        workers: processes that work on whole elements; 0: threads of this process do.
        threads: without workers: how many elements are worked on at once; 0 makes each when it is asked for.
        prefetch: how many elements may lie ready, at least one a thread or worker.
    """
    elements = grain.MapDataset.range(steps.start, steps.stop).map(load)
    if workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain reads its flags in the workers; nothing else has parsed any
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=max(1, prefetch // workers))
        ahead = elements.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
        ahead = grain.experimental.WithOptionsIterDataset(
            ahead, grain.experimental.DatasetOptions(min_shm_size=_SHARED_BYTES)
        ).mp_prefetch(options, worker_init_fn=end_with_parent)
    else:
        ahead = elements.to_iter_dataset(
            grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(prefetch, threads) if threads else 0)
        )
    iterator = iter(ahead)
    try:
        yield from iterator
    finally:
        iterator.close()


def end_with_parent(worker: int, workers: int) -> None:
    """Ends this worker process as soon as its parent is gone, killed without a chance to say so included."""
    del worker, workers
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()


def _watch(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)

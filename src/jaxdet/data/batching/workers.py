"""Background loading with threads or worker processes."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import grain
import jax
import numpy as np
from absl import flags
from PIL import Image

from jaxdet.parallel import many

Element = TypeVar("Element")

_SHARED_BYTES = 1 << 16  # larger arrays are passed in shared memory, smaller ones through a pipe
_SHARED_MEMORY = Path("/dev/shm")  # on Linux
_UNGUARDED = 83  # exit status of a worker whose script has no __main__ guard
_SPARE = 3  # elements per worker in shared memory besides the ready ones: being written, read ahead or copied


def read_ahead(
    load: Callable[[int], Element], steps: range, *, workers: int, threads: int, prefetch: int, size: int
) -> Iterator[Element]:
    """``load(step)`` for the steps, in order. Closing the iterator stops loading.

    Args:
        load: a pure function that returns a tree of numpy arrays; it is pickled for workers.
        workers: number of processes, each loading one element at a time; 0: threads of this process.
        threads: without workers, the number of elements that are loaded in parallel; 0: each is loaded on demand.
        prefetch: maximum number of loaded elements, at least one per thread or worker.
        size: bytes of the largest element.

    Raises:
        ValueError: shared memory is too small for the workers' elements.
        RuntimeError: a worker process died, or the script that starts them has no ``if __name__ == "__main__":``.
    """
    source = grain.MapDataset.range(steps.start, steps.stop).map(load)
    workers = min(workers, len(steps))
    if workers:
        leave_unguarded_script()
        ready = max(1, prefetch // (2 * workers))  # Grain buffers the same number per worker in this process
        _check_shared_memory((2 * ready + _SPARE) * workers * size)
        elements = _from_processes(source, workers, ready)
    else:
        elements = _from_threads(source, threads, max(prefetch, threads) if threads else 0)
    return _until_closed(elements)


def leave_unguarded_script() -> None:
    """Exits this process if it is a worker that is still importing the script which started it.

    Such a script has no ``if __name__ == "__main__":`` and would start its work again in every worker. The process that
    started the worker raises an error (see `read_ahead`).
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing itself checks
        os._exit(_UNGUARDED)


def _until_closed(elements: Any) -> Iterator[Any]:
    iterator = iter(elements)
    try:
        yield from iterator
    except RuntimeError as error:
        if f"exit code {_UNGUARDED}." not in str(error):
            raise
        raise RuntimeError(
            "worker processes import the script that starts them, and this one would start its work again in each: put "
            'its work below `if __name__ == "__main__":`, or use workers=0'
        ) from None
    finally:
        iterator.close()


def _from_threads(source: Any, threads: int, ready: int) -> Any:
    return source.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ready))


def _from_processes(source: Any, workers: int, ready: int) -> Any:
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain reads the flags when it starts a process
    shared = grain.experimental.WithOptionsIterDataset(
        source.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)),
        grain.experimental.DatasetOptions(min_shm_size=_SHARED_BYTES),
    )
    options = grain.MultiprocessingOptions(workers, per_worker_buffer_size=ready)
    start = partial(start_worker, ignore_sigterm if many() else follow_parent, Image.MAX_IMAGE_PIXELS)
    elements = shared.mp_prefetch(options, worker_init_fn=start).map(_copy_out)
    return grain.experimental.ThreadPrefetchIterDataset(elements, prefetch_buffer_size=1)


def _check_shared_memory(needed: int) -> None:
    """Checks the free shared memory in advance: workers that exceed it are killed without a message."""
    free = shutil.disk_usage(_SHARED_MEMORY).free if _SHARED_MEMORY.is_dir() else needed
    if free < needed:
        raise ValueError(
            f"{_SHARED_MEMORY} has {free >> 20} MiB free, but the workers need up to {needed >> 20} MiB for batches; "
            "make it larger (docker run --shm-size), or use fewer workers, or none"
        )


def _copy_out(element: Element) -> Element:
    """Copies an element out of shared memory, which is then freed."""
    return jax.tree.map(lambda leaf: np.array(leaf) if isinstance(leaf, np.ndarray) else leaf, element)


def start_worker(follow: Callable[[int, int], None], limit: int | None, worker: int, workers: int) -> None:
    """Initialises a worker process, with its parent's limit on image pixels (``Image.MAX_IMAGE_PIXELS``)."""
    Image.MAX_IMAGE_PIXELS = limit
    follow(worker, workers)


def follow_parent(worker: int, workers: int) -> None:
    """Makes this worker process exit when its parent exits, also if the parent is killed."""
    del worker, workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes, and the parent stops its workers
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def ignore_sigterm(worker: int, workers: int) -> None:
    """`follow_parent` for a run on several hosts.

    A cluster sends SIGTERM to all processes of a host, but batches are needed until all hosts stop at the same step.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    follow_parent(worker, workers)


def _exit_after(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)

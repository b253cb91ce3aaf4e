"""Reading batches ahead, in threads or in worker processes that end with whoever needs them."""

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

_SHARED_BYTES = 1 << 16  # arrays from this size on come from a worker in shared memory, smaller ones through a pipe
_SHARED_MEMORY = Path("/dev/shm")  # of Linux
_UNGUARDED = 83  # exit status of a worker whose script has no guard
_SPARE = 3  # elements a worker holds there beside the ready ones: the one it writes, one read ahead, one copied out


def read_ahead(
    load: Callable[[int], Element], steps: range, *, workers: int, threads: int, prefetch: int, size: int
) -> Iterator[Element]:
    """``load(step)`` for the steps, in order; closing the iterator ends the work.

    Args:
        load: a pure function that makes a tree of numpy arrays; with ``workers`` it travels to them pickled.
        workers: processes that work on whole elements; 0: threads of this process do.
        threads: without workers: how many elements are worked on at once; 0 makes each when it is asked for.
        prefetch: how many elements may lie ready, at least one a thread or worker.
        size: bytes of the largest element.

    Raises:
        ValueError: shared memory cannot hold what the workers may put there.
        RuntimeError: a worker process ended without an error of its own, or the script that starts them has no
            ``if __name__ == "__main__":``.
    """
    source = grain.MapDataset.range(steps.start, steps.stop).map(load)
    workers = min(workers, len(steps))
    if workers:
        leave_unguarded_script()
        ready = max(1, prefetch // (2 * workers))  # Grain keeps as many again of every worker on this side
        _check_shared_memory((2 * ready + _SPARE) * workers * size)
        elements = _from_processes(source, workers, ready)
    else:
        elements = _from_threads(source, threads, max(prefetch, threads) if threads else 0)
    return _until_closed(elements)


def leave_unguarded_script() -> None:
    """Ends this process if it is a worker that is still importing the script which started it.

    Such a script has no ``if __name__ == "__main__":`` and starts its work again when a worker imports it. The process
    that started the worker raises an error that says so (see `read_ahead`).
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing itself asks
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
            'what it does below `if __name__ == "__main__":`, or take workers=0'
        ) from None
    finally:
        iterator.close()


def _from_threads(source: Any, threads: int, ready: int) -> Any:
    return source.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ready))


def _from_processes(source: Any, workers: int, ready: int) -> Any:
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain asks for them when it starts a process, and nothing else has parsed any
    shared = grain.experimental.WithOptionsIterDataset(
        source.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)),
        grain.experimental.DatasetOptions(min_shm_size=_SHARED_BYTES),
    )
    options = grain.MultiprocessingOptions(workers, per_worker_buffer_size=ready)
    begin = partial(begin_worker, outlast_sigterm if many() else follow_parent, Image.MAX_IMAGE_PIXELS)
    elements = shared.mp_prefetch(options, worker_init_fn=begin).map(_own)
    return grain.experimental.ThreadPrefetchIterDataset(elements, prefetch_buffer_size=1)


def _check_shared_memory(needed: int) -> None:
    """A worker that finds no room there is killed by the system and cannot say why."""
    free = shutil.disk_usage(_SHARED_MEMORY).free if _SHARED_MEMORY.is_dir() else needed
    if free < needed:
        raise ValueError(
            f"{_SHARED_MEMORY} has {free >> 20} MiB free, but the workers may put {needed >> 20} MiB of batches there; "
            "make it larger (docker run --shm-size), or take fewer workers, or none"
        )


def _own(element: Element) -> Element:
    """The element out of shared memory, which is then free, whoever keeps the arrays and for how long."""
    return jax.tree.map(lambda leaf: np.array(leaf) if isinstance(leaf, np.ndarray) else leaf, element)


def begin_worker(follow: Callable[[int, int], None], limit: int | None, worker: int, workers: int) -> None:
    """Begins a worker process with its parent's limit for the pixels of an image (``Image.MAX_IMAGE_PIXELS``)."""
    Image.MAX_IMAGE_PIXELS = limit
    follow(worker, workers)


def follow_parent(worker: int, workers: int) -> None:
    """Ends this worker process when its parent says so, or is gone, also one that was killed and could not say so."""
    del worker, workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group, and the parent ends its workers
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def outlast_sigterm(worker: int, workers: int) -> None:
    """`follow_parent`, of a run on several hosts: a cluster sends SIGTERM to all processes of a host, and this one's
    batches are needed until the step at which all hosts stop together."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    follow_parent(worker, workers)


def _end_after(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)

"""Several processes, on one host or on many, that work as one program: how they find each other, and what they share.

Everything here also works in a single process, where it does nothing and costs nothing.
"""

from __future__ import annotations

import json
import os
import socket
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

HEARTBEAT_SECONDS = 30  # after so long without a sign of life a process counts as lost
_SHUTDOWN_SECONDS = 30  # that a process which ends waits for the others to end, too
_INDEX_OF_JOB = "JOB_COMPLETION_INDEX"  # of Kubernetes' indexed jobs
_GIVE = "give --coordinator HOST:PORT, --num-processes and --process-id, or --num-processes 1 to work alone"


def initialize(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    timeout: int = 300,
) -> bool:
    """Joins this process to the others of its job; to be called before anything else touches a device.

    Without arguments JAX finds out by itself on TPU pods, GKE (``pip install 'jax[k8s]'`` for GPUs), SLURM and Open
    MPI; where there is no such cluster, the process works alone.

    Args:
        coordinator: ``HOST:PORT`` of process 0, the same for all processes.
        num_processes: how many there are; 1: this process works alone, whatever it is started on.
        process_id: of this one, from 0.
        timeout: seconds to wait for the others.

    Returns:
        Whether there are others, or could be.

    Raises:
        ValueError: the arguments do not belong together, or the cluster cannot tell what JAX has to know.
        ConnectionError: the others did not come in time.
    """
    _check(coordinator, num_processes, process_id)
    if num_processes == 1 or jax.distributed.is_initialized():
        return jax.distributed.is_initialized()
    address = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="\\s*Kubernetes environment detected")  # see _no_cluster
            jax.distributed.initialize(
                coordinator,
                num_processes,
                process_id,
                initialization_timeout=timeout,
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
                shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
            )
    except ValueError as error:
        if address is None and num_processes is None and process_id is None:
            return _no_cluster()
        raise ValueError(f"the cluster does not say all that is needed ({error}); {_GIVE}") from None
    except RuntimeError as error:
        text = " ".join(str(error).split())
        if "DEADLINE" in text or "UNAVAILABLE" in text:
            raise ConnectionError(
                f"{address or 'the coordinator'} and all {num_processes or 'the'} processes did not find each other "
                f"within {timeout} s: is every one of them running, and the port open?"
            ) from None
        raise ValueError(f"the processes of this job cannot be found out ({text[:300]}); {_GIVE}") from None
    return True


def _no_cluster() -> bool:
    """Where JAX knows none. A pod that is one of several must not take itself for a machine of its own."""
    if _INDEX_OF_JOB in os.environ:
        raise ValueError(
            "this is a pod of an indexed Kubernetes job, and JAX cannot ask for the others: pip install 'jax[k8s]', "
            f"or {_GIVE}"
        )
    return False


def _check(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    if num_processes is not None and num_processes < 1:
        raise ValueError(f"--num-processes must be at least 1, not {num_processes}")
    if process_id is not None and not 0 <= process_id < (num_processes or process_id + 1):
        raise ValueError(f"--process-id must be from 0 to {(num_processes or 1) - 1}, not {process_id}")
    if coordinator is not None and not coordinator.rpartition(":")[2].isdigit():
        raise ValueError(f"--coordinator is HOST:PORT of process 0, not {coordinator!r}")


def many() -> bool:
    """Whether this process is one of several; asking touches no device."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def process_count() -> int:
    """How many processes the program has."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def process_index() -> int:
    """Which of them this is, from 0."""
    return jax.process_index() if jax.distributed.is_initialized() else 0


def is_first() -> bool:
    """Whether this is the process that writes what is written once."""
    return process_index() == 0


def barrier(name: str) -> None:
    """Waits until every process has come to the barrier of this name."""
    if many():
        multihost_utils.sync_global_devices(name)


def gather_bytes(own: bytes) -> list[bytes]:
    """What each process gives, by process; every one gets all. All have to call it, in the same order of calls."""
    if not many():
        return [own]
    sizes = multihost_utils.process_allgather(np.array([len(own)], np.int32))[:, 0]  # [processes]
    padded = np.zeros(max(1, int(sizes.max())), np.uint8)
    padded[: len(own)] = np.frombuffer(own, np.uint8)
    rows = multihost_utils.process_allgather(padded)
    return [row[:size].tobytes() for row, size in zip(rows, sizes.tolist(), strict=True)]


def gather_arrays(own: np.ndarray) -> np.ndarray:
    """The arrays ``[n, ...]`` of all processes one after the other; their lengths ``n`` may differ, 0 among them."""
    if not many():
        return own
    parts = gather_bytes(np.ascontiguousarray(own).tobytes())
    return np.concatenate([np.frombuffer(part, own.dtype).reshape(-1, *own.shape[1:]) for part in parts])


def gather(own: Any) -> list[Any]:
    """As `gather_bytes`, of plain JSON values."""
    return [json.loads(part) for part in gather_bytes(json.dumps(own).encode())] if many() else [own]


def on_first(function: Callable[[], Any]) -> Any:
    """What a function returns in process 0, which alone calls it: a plain JSON value, in every process.

    All processes have to call this, and the function, which the others do not call, nothing that waits for them.

    Raises:
        What it raises there, in every process (elsewhere as OSError or ValueError, with the same text).
    """
    if not many():
        return function()
    failed: Exception | None = None
    told: Any = None
    if is_first():
        try:
            told = {"value": function()}
        except Exception as error:
            failed, told = error, {"error": str(error), "disk": isinstance(error, OSError)}
    told = gather(told)[0]
    if failed is not None:
        raise failed
    if "error" in told:
        raise (OSError if told["disk"] else ValueError)(told["error"])
    return told["value"]


def host_names() -> list[str]:
    """The host of each process."""
    return gather(socket.gethostname())

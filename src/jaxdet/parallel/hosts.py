"""Several processes, on one or many hosts, that run as one program: joining them, and communication.

All functions also work in a single process, where they do nothing and cost nothing.
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

HEARTBEAT_SECONDS = 30  # a process that sends no heartbeat for this long is lost
_SHUTDOWN_SECONDS = 30  # a process that has finished waits this long for the others
_INDEX_OF_JOB = "JOB_COMPLETION_INDEX"  # set by Kubernetes in the pods of indexed jobs
_GIVE = "give --coordinator HOST:PORT, --num-processes and --process-id, or --num-processes 1 for a single process"


def initialize(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    timeout: int = 300,
) -> bool:
    """Connects this process with the other processes of its job. Call it before anything uses a device.

    Without arguments, JAX detects the job on TPU pods, GKE (``pip install 'jax[k8s]'`` for GPUs), SLURM and Open MPI.
    Without such a cluster, the process runs alone.

    Args:
        coordinator: ``HOST:PORT`` of process 0, the same for all processes.
        num_processes: the number of processes; 1: this process runs alone, also on a cluster.
        process_id: the index of this process, from 0.
        timeout: seconds to wait for the other processes.

    Returns:
        Whether JAX's distributed system was initialised. There may still be only one process.

    Raises:
        ValueError: the arguments contradict each other, or the cluster does not provide all that JAX needs.
        ConnectionError: not all processes connected in time.
    """
    _check_arguments(coordinator, num_processes, process_id)
    if num_processes == 1 or jax.distributed.is_initialized():
        return jax.distributed.is_initialized()
    address = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    try:
        with warnings.catch_warnings():
            # _without_cluster raises an error instead.
            warnings.filterwarnings("ignore", message="\\s*Kubernetes environment detected")
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
            return _without_cluster()
        raise ValueError(f"the cluster does not provide all that JAX needs ({error}); {_GIVE}") from None
    except RuntimeError as error:
        text = " ".join(str(error).split())
        if "DEADLINE" in text or "UNAVAILABLE" in text:
            raise ConnectionError(
                f"{address or 'the coordinator'} and all {num_processes or 'the'} processes did not find each other "
                f"within {timeout} s: check that all of them run, and that the port is open"
            ) from None
        raise ValueError(f"the processes of this job cannot be determined ({text[:300]}); {_GIVE}") from None
    return True


def _without_cluster() -> bool:
    """False: JAX detects no cluster. Raises ValueError in one of several Kubernetes pods, which must not run alone."""
    if _INDEX_OF_JOB in os.environ:
        raise ValueError(
            "this is a pod of an indexed Kubernetes job, but JAX cannot find the other pods: pip install 'jax[k8s]', "
            f"or {_GIVE}"
        )
    return False


def _check_arguments(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    if num_processes is not None and num_processes < 1:
        raise ValueError(f"--num-processes must be at least 1, not {num_processes}")
    if process_id is not None and not 0 <= process_id < (num_processes or process_id + 1):
        raise ValueError(f"--process-id must be from 0 to {(num_processes or 1) - 1}, not {process_id}")
    if coordinator is not None and not coordinator.rpartition(":")[2].isdigit():
        raise ValueError(f"--coordinator must be HOST:PORT of process 0, not {coordinator!r}")


def many() -> bool:
    """Whether this process is one of several. Does not initialise devices if it is the only one."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def process_count() -> int:
    """The number of processes."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def process_index() -> int:
    """The index of this process, from 0."""
    return jax.process_index() if jax.distributed.is_initialized() else 0


def is_first() -> bool:
    """Whether this is process 0, which writes the files that only one process may write."""
    return process_index() == 0


def barrier(name: str) -> None:
    """Waits until every process has reached the barrier of this name."""
    if many():
        multihost_utils.sync_global_devices(name)


def gather_bytes(own: bytes) -> list[bytes]:
    """The bytes of all processes, in the order of processes. All processes must call it, in the same order of calls."""
    if not many():
        return [own]
    sizes = multihost_utils.process_allgather(np.array([len(own)], np.int32))[:, 0]  # [processes]
    padded = np.zeros(max(1, int(sizes.max())), np.uint8)
    padded[: len(own)] = np.frombuffer(own, np.uint8)
    rows = multihost_utils.process_allgather(padded)
    return [row[:size].tobytes() for row, size in zip(rows, sizes.tolist(), strict=True)]


def gather_arrays(own: np.ndarray) -> np.ndarray:
    """The concatenated arrays ``[n, ...]`` of all processes. Lengths ``n`` may differ, and be 0."""
    if not many():
        return own
    parts = gather_bytes(np.ascontiguousarray(own).tobytes())
    return np.concatenate([np.frombuffer(part, own.dtype).reshape(-1, *own.shape[1:]) for part in parts])


def gather(own: Any) -> list[Any]:
    """`gather_bytes` for JSON values."""
    return [json.loads(part) for part in gather_bytes(json.dumps(own).encode())] if many() else [own]


def on_first(function: Callable[[], Any]) -> Any:
    """Calls a function in process 0 only, and returns its result, a JSON value, in every process.

    All processes must call this. The function must not wait for other processes, as they do not call it.

    Raises:
        The function's exception, in every process (in the others as OSError or ValueError with the same message).
    """
    if not many():
        return function()
    failed: Exception | None = None
    outcome: Any = None
    if is_first():
        try:
            outcome = {"value": function()}
        except Exception as error:
            failed, outcome = error, {"error": str(error), "disk": isinstance(error, OSError)}
    outcome = gather(outcome)[0]
    if failed is not None:
        raise failed
    if "error" in outcome:
        raise (OSError if outcome["disk"] else ValueError)(outcome["error"])
    return outcome["value"]


def host_names() -> list[str]:
    """The host name of each process."""
    return gather(socket.gethostname())

"""Processes that work as one: two of them on this machine, and what one that works alone is told."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet import parallel
from jaxdet.saving.train_state import Checkpoints
from jaxdet.training import TrainState

HERE = Path(__file__).resolve().parent
PATIENCE = 300  # seconds; only a hang takes so long


def _state(step, factor=1.0):
    toy = {"kernel": factor * jnp.arange(1000, dtype=jnp.float32).reshape(10, 100) / 7}
    return TrainState(jnp.int32(step), jnp.ones((), bool), toy, {"count": jnp.int32(5)}, (jnp.float32(0.25),))


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def test_two_processes_share_save_and_stop(tmp_path):
    with Checkpoints(tmp_path / "alone") as checkpoints:
        checkpoints.save(_state(2, 2.0), {"by": 1}, wait=True)
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, str(HERE / "two_processes.py"), str(tmp_path), str(free_port())]
    processes = [
        subprocess.Popen(
            [*command, str(index)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for index in range(2)
    ]
    try:
        texts = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(texts)
    steps = {text.rpartition("stopped at ")[2].strip() for text in texts}
    assert len(steps) == 1
    with Checkpoints(tmp_path / "together") as checkpoints:  # by two processes, read by one
        assert checkpoints.latest() == int(steps.pop())
        restored, record = checkpoints.restore(_state(0), 3)
    assert int(restored.step) == 3 and record == {"by": 2}
    np.testing.assert_array_equal(restored.params["kernel"], _state(3).params["kernel"])


def test_a_process_alone_shares_with_itself():
    assert parallel.initialize(num_processes=1) is False and not parallel.many() and parallel.is_first()
    assert parallel.gather([1, "a"]) == [[1, "a"]] and parallel.on_first(lambda: 5) == 5
    own = np.arange(6).reshape(3, 2)
    assert parallel.gather_arrays(own) is own and parallel.local_rows(8, None) == slice(0, 8)
    parallel.barrier("nobody else")


@pytest.mark.parametrize(
    "arguments, problem",
    [
        ({"num_processes": 0}, "--num-processes must be at least 1, not 0"),
        ({"num_processes": 2, "process_id": 2}, "--process-id must be from 0 to 1, not 2"),
        ({"coordinator": "host"}, "--coordinator must be HOST:PORT of process 0, not 'host'"),
    ],
)
def test_arguments_that_do_not_belong_together(arguments, problem):
    with pytest.raises(ValueError, match=problem):
        parallel.initialize(**arguments)

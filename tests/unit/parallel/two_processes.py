"""Run by test_finding.py, one of two processes with two devices each: what they share, save, and stop at.

two_processes.py FOLDER PORT PROCESS
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet import parallel
from jaxdet.runs.signals import StopRequest
from jaxdet.saving.train_state import Checkpoints
from jaxdet.training import TrainState

folder, port, own = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

# Before anything has touched a device: where there is no cluster, this process is alone, or told what is missing.
assert parallel.process_count() == 1 and not parallel.many()
assert parallel.initialize() is False
for arguments in ({"coordinator": "host:8476", "num_processes": 2}, {"num_processes": 2, "process_id": 0}):
    with pytest.raises(ValueError, match=r"does not provide all that JAX needs .*give --coordinator"):
        parallel.initialize(**arguments)
os.environ["JOB_COMPLETION_INDEX"] = "0"
with pytest.raises(ValueError, match=r"indexed Kubernetes job.*pip install 'jax\[k8s\]'"):
    parallel.initialize()

assert parallel.initialize(f"localhost:{port}", 2, own)
assert parallel.many() and parallel.process_count() == 2 and parallel.process_index() == own
assert parallel.is_first() == (own == 0)

# What one has, all have: of different lengths, of none, and exactly.
assert parallel.gather({"own": own, "third": 1 / 3}) == [{"own": index, "third": 1 / 3} for index in range(2)]
mine = np.arange(3 * own * 2, dtype=np.float64).reshape(-1, 2) / 3
np.testing.assert_array_equal(parallel.gather_arrays(mine), np.arange(6, dtype=np.float64).reshape(3, 2) / 3)
assert parallel.on_first(lambda: {"told by": own}) == {"told by": 0}
with pytest.raises(OSError, match=r"No such file or directory: .*none"):
    parallel.on_first((folder / "none").read_text)
with pytest.raises(ValueError, match="invalid literal"):
    parallel.on_first(lambda: int("x"))

# A batch of eight over four devices, of which each process holds half.
mesh = parallel.data_mesh()
assert [device.process_index for device in mesh.devices] == [0, 0, 1, 1]
rows = parallel.local_rows(8, mesh)
assert (rows.start, rows.stop) == (4 * own, 4 * own + 4)
whole = np.arange(24, dtype=np.float32).reshape(8, 3)
batch = parallel.split({"x": whole[rows]}, 8, mesh)["x"]
assert batch.shape == (8, 3) and {shard.data.shape for shard in batch.addressable_shards} == {(2, 3)}
assert float(batch.sum()) == whole.sum()
np.testing.assert_array_equal(parallel.fetch_rows(batch, rows), whole[rows])
scattered = parallel.data_mesh([mesh.devices[i] for i in (0, 2, 1, 3)])
with pytest.raises(ValueError, match="devices of this process are not contiguous"):
    parallel.local_rows(8, scattered)
with pytest.raises(ValueError, match=r"batch_size=6 does not divide over 4 devices; take 4 or 8"):
    parallel.check_division("batch_size", 6, mesh)

# Both write a checkpoint, and both read the one that a single process wrote.
toy = {"kernel": jnp.arange(1000, dtype=jnp.float32).reshape(10, 100) / 7}
state = TrainState(jnp.int32(3), jnp.ones((), bool), toy, {"count": jnp.int32(5)}, (jnp.float32(0.25),))
state = parallel.copy_to(state, mesh)
with Checkpoints(folder / "alone") as checkpoints:
    found, record = checkpoints.restore(state)
assert (
    int(found.step) == 2 and record == {"by": 1} and found.params["kernel"].sharding == state.params["kernel"].sharding
)
np.testing.assert_array_equal(found.params["kernel"], toy["kernel"] * 2)
with Checkpoints(folder / "together") as checkpoints:
    assert checkpoints.latest() is None
    checkpoints.save(state, {"by": 2}, wait=True)
    assert checkpoints.latest() == 3

# One is told to stop; both do, after the same step.
with StopRequest() as stop:
    for step in range(1, 10_000):
        if own == 1 and step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.002 * (1 + own))
        if stop.at(step) is not None:
            break
assert stop.received == signal.SIGTERM and 5 < step < 9_999
assert parallel.gather(step) == [step, step]
with Checkpoints(folder / "together") as checkpoints:
    checkpoints.save(replace(state, step=parallel.copy_to(jnp.int32(step), mesh)), {"by": 2}, wait=True)
parallel.barrier("done")
print(f"stopped at {step}")

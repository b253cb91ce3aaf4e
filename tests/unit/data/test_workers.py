"""Worker processes: the same batches, the same errors, and no process left behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxdet.data import BatchPlan, CocoDataset, DataError, load_batch, load_batches
from jaxdet.data.augment.augmentation import Augmentation
from jaxdet.data.batching import workers as workers_module
from jaxdet.data.batching.sizing import ShortestSide


@pytest.fixture
def dataset(many_images):
    return CocoDataset(*many_images)


def _wait_until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing_and_end_when_closed(dataset, workers):
    def darken(example, generator):
        return replace(example, image=example.image // (1 + int(generator.random() * 3)))

    augmentation = Augmentation(min_sizes=(100, 128), photometric=0.5, extra=(darken,))
    plan = BatchPlan(dataset.sizes, 4, ShortestSide((100, 128), 160), seed=3)
    batches = load_batches(dataset, plan, 2, 1000, augmentation=augmentation, workers=workers)
    for step in range(2, 9):
        found, expected = next(batches), load_batch(dataset, plan, step, augmentation=augmentation)
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert type(one) is type(other)
            np.testing.assert_array_equal(one, other)
        if step == 1 + workers:  # each has loaded one: Ctrl-C, which the whole group receives, is the parent's affair
            for process in multiprocessing.active_children():
                os.kill(process.pid, signal.SIGINT)
    assert len(multiprocessing.active_children()) == workers
    batches.close()
    assert not multiprocessing.active_children()


def test_fewer_steps_than_workers(dataset):
    plan = BatchPlan(dataset.sizes, 4, ShortestSide((48,), 64))
    assert list(load_batches(dataset, plan, 5, 0, workers=2)) == []
    batches = load_batches(dataset, plan, 5, 1, workers=2)
    assert next(batches).step == 5 and len(multiprocessing.active_children()) <= 1
    assert next(batches, None) is None


def test_an_error_in_a_worker_is_the_callers(dataset):
    plan = BatchPlan(dataset.sizes, 4, ShortestSide((48,), 64))
    path = dataset.records[int(plan.batch(1).indices[2])].path
    Path(path).write_bytes(b"no image")
    batches = load_batches(dataset, plan, 0, 4, workers=2)
    assert next(batches).step == 0
    with pytest.raises(DataError, match="cannot be decoded as an image") as error:
        next(batches)
    assert str(error.value).startswith(path) and "\n" not in str(error.value)
    _wait_until(lambda: not multiprocessing.active_children())


def test_workers_end_when_their_parent_is_killed(many_images):
    command = [sys.executable, Path(__file__).with_name("loader_to_kill.py"), *many_images]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        workers = [int(word) for word in parent.stdout.readline().split()]
        assert len(workers) == 2 and all(map(_runs, workers))
        parent.kill()
    try:
        _wait_until(lambda: not any(map(_runs, workers)))
    finally:
        for worker in filter(_runs, workers):
            os.kill(worker, signal.SIGKILL)


def _runs(process):
    """A zombie has ended, though nobody has asked it how."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_too_little_shared_memory_is_said_before_a_worker_is_killed_for_it(dataset, monkeypatch):
    plan = BatchPlan(dataset.sizes, 4, ShortestSide((480,), 640))
    monkeypatch.setattr(workers_module, "_SHARED_MEMORY", Path("/"))
    monkeypatch.setattr(workers_module.shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(64 << 20))
    with pytest.raises(ValueError, match=r"/ has 64 MiB free, but the workers need up to \d+ MiB .*--shm-size"):
        load_batches(dataset, plan, 0, 1, workers=2)
    assert next(load_batches(dataset, plan, 0, 1)).step == 0


UNGUARDED = """
from jaxdet.data import BatchPlan, CocoDataset, load_batches
from jaxdet.data.batching.sizing import ShortestSide
from jaxdet.data_report import inspection

dataset = CocoDataset(*{files!r})
if {inspect}:
    inspection.IMAGES_PER_PROCESS = 1
    inspection.image_faults(dataset, workers=2, progress=False)
plan = BatchPlan(dataset.sizes, 4, ShortestSide((100,), 160), seed=3)
print(len(list(load_batches(dataset, plan, 0, 3, workers=2))), "batches")
"""


@pytest.mark.parametrize("inspect", [False, True])
def test_a_script_without_a_guard_is_told_so_in_a_line(many_images, tmp_path, inspect):
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED.format(files=tuple(map(str, many_images)), inspect=inspect))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True)
    assert ended.returncode == 1 and ended.stderr.count("Traceback") == 1
    assert len(ended.stderr.splitlines()) < 15
    assert '`if __name__ == "__main__":`' in ended.stderr.splitlines()[-1] and "workers=0" in ended.stderr

"""Checkpoints: equal bits back, the last ones kept, and one clear line when the disk will not have it."""

from __future__ import annotations

import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdet
from jaxdet.saving.train_state import CheckpointError, Checkpoints
from jaxdet.training import OptimizerConfig, init_state, make_optimizer

# What Orbax reads in parts is given up in the middle, which shows when garbage is collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def _state(num_classes=3, step=0):
    model = jaxdet.create_model("mobilenet_v1", num_classes=num_classes, width=0.25)
    optimizer = make_optimizer(OptimizerConfig(kind="adamw", accumulate=2), 10)
    return replace(init_state(model, optimizer, ema=True)[1], step=jnp.int32(step))


@pytest.fixture(scope="module")
def state():
    return _state()


def _written(folder):
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdigit())


def test_the_same_bits_come_back_and_the_last_ones_stay(state, tmp_path):
    with Checkpoints(tmp_path, keep=2, keep_every=4) as checkpoints:
        for step in range(1, 8):
            checkpoints.save(replace(state, step=jnp.int32(step)), {"best": {"value": step / 3}})
    assert _written(tmp_path) == [4, 6, 7]
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest() == 7
        restored, record = checkpoints.restore(state)
    assert int(restored.step) == 7 and record == {"best": {"value": 7 / 3}}
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, replace(restored, step=state.step), state)


def test_another_model_is_named(state, tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(replace(state, step=jnp.int32(1)), {}, wait=True)
        with pytest.raises(CheckpointError, match=r"of another model or optimizer; first of \d+: .*fc"):
            checkpoints.restore(_state(num_classes=4))


def test_damage_is_told_and_the_one_before_is_left(state, tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(replace(state, step=jnp.int32(step)), {}, wait=True)
    largest = max((tmp_path / "2").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else -1)
    largest.write_bytes(largest.read_bytes()[:500])
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(CheckpointError, match=r"2: this checkpoint cannot be read .*resume from step 1"):
            checkpoints.restore(state)
    shutil.rmtree(tmp_path / "2")
    with Checkpoints(tmp_path) as checkpoints:
        restored, _ = checkpoints.restore(state)
    assert int(restored.step) == 1


def test_a_full_disk_is_told_before_anything_is_written(state, tmp_path, monkeypatch):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(replace(state, step=jnp.int32(1)), {}, wait=True)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 1000))
        with pytest.raises(
            CheckpointError, match=r"step 2 could not be written \(it needs \d+ MB .*good one is of step 1"
        ):
            checkpoints.save(replace(state, step=jnp.int32(2)), {}, wait=True)
    assert _written(tmp_path) == [1]


@pytest.mark.parametrize("place", ["/sys/jaxdet", "/sys/kernel"])
def test_a_read_only_folder_is_told_at_once(place):
    with pytest.raises(CheckpointError, match="checkpoints cannot be saved there"):
        Checkpoints(place)

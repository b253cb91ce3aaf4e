"""Disks that are full, read-only, or hold half a checkpoint: a clear line, and the last good checkpoint stays."""

from __future__ import annotations

import resource
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

from jaxdet.cli.__main__ import main

# Orbax's own threads fail, and what it reads in parts is given up in the middle, which shows when garbage is collected.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TINY = Path(__file__).resolve().parent / "tiny_run.py"
SHORT = [part for option in ("steps=9", "checkpoint_every=3", "workers=0", "keep=3") for part in ("--set", option)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of nine steps with three checkpoints."""
    folder = tmp_path_factory.mktemp("disks")
    assert main(["shapes", str(folder / "data"), "--train", "4", "--val", "2"]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATA", str(folder / "data"))
        assert _train(folder / "run") == 0
        yield folder / "run"


@pytest.fixture
def interrupted(finished, tmp_path):
    """The same run, with three steps done."""
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    for step in ("6", "9"):
        shutil.rmtree(out / "checkpoints" / step)
    return out


def _train(out):
    return main(["train", str(TINY), "--out", str(out), *SHORT])


def _steps(out):
    return sorted(int(entry.name) for entry in (out / "checkpoints").iterdir() if entry.name.isdigit())


@contextmanager
def _largest_file(size):
    """As if the disk were full: no file can grow beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_neither_a_full_disk_nor_half_a_checkpoint_costs_the_last_good_one(interrupted, capsys):
    with _largest_file(100_000):
        assert _train(interrupted) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "the checkpoint of step 6 could not be written (File too large); the last good one is of step 3" in error
    assert _steps(interrupted) == [3]
    shutil.copytree(interrupted / "checkpoints" / "3" / "state", interrupted / "checkpoints" / "5.orbax-checkpoint-tmp")
    assert _train(interrupted) == 0
    assert "continuing from step 3 of 9" in capsys.readouterr().out
    assert _steps(interrupted) == [3, 6, 9]
    largest = max((interrupted / "checkpoints" / "9").rglob("d/*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:1000])
    assert _train(interrupted) == 1
    assert "9: this checkpoint cannot be read (its arrays are damaged); remove that folder to resume from step 6" in (
        capsys.readouterr().err
    )


def test_a_read_only_folder_costs_no_training(finished, capsys):
    assert _train("/sys/kernel/jaxdet") == 1
    assert "/sys/kernel/jaxdet" in capsys.readouterr().err.strip().splitlines()[-1]

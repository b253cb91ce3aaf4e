"""Runs that are stopped, killed, starved of disk or poisoned: nothing is lost, and nobody is left behind."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxdet.cli.__main__ import main

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "tiny_run.py"
STEPS = 24
PATIENCE = 240  # seconds; only a hang takes so long


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    assert main(["shapes", str(folder), "--train", "10", "--val", "2"]) == 0
    return folder


class Process:
    """`jaxdet train` of the tiny run in a process of its own, which all of its children can be told by."""

    def __init__(self, data, out, *options, hold_at=None, preexec_fn=None):
        self.out, self.mark = Path(out), uuid.uuid4().hex
        environment = os.environ | {
            "DATA": str(data),
            "JAXDET_TEST_MARK": self.mark,
            "JAX_COMPILATION_CACHE_DIR": str(HERE.parents[1] / ".jax_cache"),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        command = ["-m", "jaxdet", "train"] if hold_at is None else [str(HERE / "held_train.py")]
        environment |= {} if hold_at is None else {"HOLD_AT": str(hold_at)}
        settings = [part for option in options for part in ("--set", option)]
        self.popen = subprocess.Popen(
            [sys.executable, *command, str(CONFIG), "--out", str(out), *settings],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=preexec_fn,
        )  # fmt: skip

    def wait_for_step(self, step):
        deadline = time.monotonic() + PATIENCE
        while self.steps_done() < step:
            assert self.popen.poll() is None, self.popen.stdout.read()
            assert time.monotonic() < deadline, f"step {step} never came"
            time.sleep(0.02)

    def steps_done(self):
        rows = _rows(self.out)
        return rows[-1]["step"] if rows else 0

    def end(self):
        text, _ = self.popen.communicate(timeout=PATIENCE)
        return self.popen.returncode, text

    def left_over(self):
        """Processes that carry its mark, once those that are on their way out had their time."""
        deadline = time.monotonic() + 30
        while (found := _marked(self.mark)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found


def _marked(mark):
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and mark.encode() in (folder / "environ").read_bytes():
                found.append((folder.name, (folder / "cmdline").read_text()))
        except OSError:  # it has gone, or is another user's
            continue
    return found


def _rows(out):
    path = out / "metrics.jsonl"
    if not path.is_file():
        return []
    lines = path.read_text().splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


def _final_state(out):
    place = out / "checkpoints" / str(STEPS) / "state"
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(place)


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    """The same run, in this process."""
    out = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATA", str(data))
        assert main(["train", str(CONFIG), "--out", str(out)]) == 0
        yield out


def _same_end(out, undisturbed):
    expected, got = _final_state(undisturbed), _final_state(out)
    assert expected.keys() == got.keys() and any("opt_state" in name for name in got)
    assert any("ema" in name for name in got)
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)
    assert _rows(out) == _rows(undisturbed)


def _interrupt(data, out, step, number, **hold):
    """Sends a signal once a step is done; the exit status and what was printed."""
    process = Process(data, out, **hold)
    process.wait_for_step(step)
    process.popen.send_signal(number)
    code, text = process.end()
    assert not process.left_over()
    return code, text


def _finish(data, out):
    process = Process(data, out)
    code, text = process.end()
    assert code == 0, text
    assert not process.left_over()
    return text


def test_a_run_that_is_stopped_and_then_killed_ends_with_the_same_bits(data, undisturbed, tmp_path, capsys):
    """SIGTERM at step 8 saves that step, SIGKILL nothing: the run then goes on from the last checkpoint."""
    code, text = _interrupt(data, tmp_path, 7, signal.SIGTERM, hold_at=8)
    assert code == 128 + signal.SIGTERM and "Traceback" not in text
    assert "SIGTERM: stopped and saved at step 8" in text
    assert max(int(entry.name) for entry in (tmp_path / "checkpoints").iterdir()) == 8
    step = random.Random(0).randrange(11, STEPS - 1)
    code, text = _interrupt(data, tmp_path, step, signal.SIGKILL, hold_at=step + 1)
    assert code == -signal.SIGKILL and "continuing from step 8 of 24" in text, text
    begun = int(re.search(r"continuing from step (\d+) of 24", _finish(data, tmp_path))[1])
    assert 8 <= begun <= step
    _same_end(tmp_path, undisturbed)
    assert main(["train", str(CONFIG), "--out", str(tmp_path), "--set", "optimizer_learning_rate=0.5"]) == 1
    assert "optimizer.learning_rate (was 0.001, now 0.5)" in capsys.readouterr().err


@pytest.mark.verify  # at any moment, also while something is being written; not held
@pytest.mark.parametrize("seed", range(1, 11))
def test_ten_kills_at_random_steps(data, undisturbed, tmp_path, seed):
    _interrupt(data, tmp_path, random.Random(seed).randrange(1, STEPS), signal.SIGKILL)
    _finish(data, tmp_path)
    _same_end(tmp_path, undisturbed)

"""Several processes train as one: to the numbers of a single device, and through the loss of one of them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from hosts_config import config

from jaxdet.runs import open_task
from small_detector import FAST_COMPILE

HERE = Path(__file__).resolve().parent
STEPS = 20
PATIENCE = 400  # seconds; only a hang takes so long


def _port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def _start(command, devices, output, **variables):
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} {FAST_COMPILE}",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(HERE.parents[1] / ".jax_cache"),
        "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]),
    }
    with output.open("w") as stream:
        return subprocess.Popen(
            [sys.executable, *map(str, command)],
            env=environment | variables,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A function that trains in so many processes with so many devices each; its folder. The same is done once."""
    known: dict[tuple[str, int, int], Path] = {}

    def train(dtype, processes, devices):
        if (dtype, processes, devices) not in known:
            out = tmp_path_factory.mktemp(f"{dtype}-{processes}x{devices}")
            command = [HERE / "hosts_worker.py", out / "run", dtype]
            port = _port()
            others = [[f"localhost:{port}", processes, index] if processes > 1 else [] for index in range(processes)]
            started = [_start([*command, *others[index]], devices, out / f"{index}.txt") for index in range(processes)]
            try:
                for index, process in enumerate(started):
                    assert process.wait(PATIENCE) == 0, (out / f"{index}.txt").read_text()
            finally:
                for process in started:
                    process.kill()
            assert f"devices {processes * devices}, processes {processes}" in (out / "0.txt").read_text()
            known[dtype, processes, devices] = out / "run"
        return known[dtype, processes, devices]

    return train


def _rows(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def _found(run, when):
    return json.loads((run / "found.json").read_text())[when]


def _state(run, step=STEPS):
    """Of whatever processes and devices wrote it, as numpy arrays."""
    place = run / "checkpoints" / str(step) / "state"
    with ocp.PyTreeCheckpointer() as checkpointer:
        names = dict(checkpointer.metadata(place).item_metadata.tree)
        wanted = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), names)
        return checkpointer.restore(place, restore_args=wanted)


def _assert_close(run, other, rtol):
    expected, got = _state(run), _state(other)
    assert expected.keys() == got.keys() and any("mean" in name for name in expected)
    for name, value in expected.items():
        scale = np.abs(value).max() if value.size else 0
        np.testing.assert_allclose(got[name], value, rtol=0, atol=rtol * scale, err_msg=name)


def _assert_same_losses(run, other, rtol, steps=STEPS):
    rows = [_rows(place) for place in (run, other)]
    assert [len(one) for one in rows] == [STEPS + 1] * 2
    for expected, got in zip(*rows, strict=True):
        if expected["step"] <= steps:
            assert expected.keys() == got.keys()
            for name, value in expected.items():
                assert got[name] == pytest.approx(value, rel=rtol, abs=1e-12), (expected["step"], name)


def test_each_process_has_images_of_one_orientation():
    task = open_task(config())
    assert task.plan.canvases[-1] == (64, 64) and len(task.val) == 9
    for step in range(STEPS):
        batch = task.plan.batch(step)
        heights, widths = task.train.sizes[batch.indices].T
        assert batch.canvas == (64, 64) and (heights < widths).tolist() == [True] * 4 + [False] * 4


def test_two_processes_with_four_devices_each_give_one_device_s_numbers(trained):
    """In float64: twenty steps with synchronised batch statistics, evaluations whose last batch is hardly filled."""
    one, many = trained("float64", 1, 1), trained("float64", 2, 4)
    accuracy = _found(one, "classified")
    assert _found(many, "classified") == pytest.approx(accuracy, rel=1e-8) and 0 < accuracy["top5"] < 1
    _assert_same_losses(one, many, 1e-8)
    _assert_close(one, many, 1e-8)
    for when in ("untrained", "trained"):
        expected, got = _found(one, when), _found(many, when)
        assert len(expected) > 90 and {record["image_id"] for record in expected} == set(range(1, 10))
        assert [(a["image_id"], a["category_id"]) for a in expected] == [(a["image_id"], a["category_id"]) for a in got]
        for name in ("score", "bbox"):
            np.testing.assert_allclose([a[name] for a in got], [a[name] for a in expected], rtol=1e-8, atol=1e-9)


@pytest.mark.verify
def test_eight_devices_of_one_process_and_of_two_give_the_same_bits(trained):
    one, two = trained("float64", 1, 8), trained("float64", 2, 4)
    _assert_same_losses(one, two, 1e-8)
    assert _found(one, "untrained") == _found(two, "untrained")
    _assert_same_losses(trained("float64", 1, 1), one, 1e-8)


@pytest.mark.verify
def test_float32_begins_alike_and_finds_the_same(trained):
    one = trained("float32", 1, 1)
    for other in (trained("float32", 1, 8), trained("float32", 2, 4)):
        _assert_same_losses(one, other, 1e-5, steps=1)
        for when in ("untrained", "trained"):
            assert _matched(_found(one, when), _found(other, when)) >= 0.995


def _matched(expected, got):
    """The part of detections that another run has, too: of that image and class, to 0.1 px and 0.001."""
    left = list(got)
    for record in expected:
        for other in left:
            same = (record["image_id"], record["category_id"]) == (other["image_id"], other["category_id"])
            near = np.abs(np.subtract(record["bbox"], other["bbox"])).max() < 0.1
            if same and near and abs(record["score"] - other["score"]) < 1e-3:
                left.remove(other)
                break
    return 1 - len(left) / len(expected) if len(got) == len(expected) else 0.0


class Hosts:
    """`jaxdet train` in so many processes with two devices each, slow enough to be disturbed in its middle."""

    def __init__(self, out, processes, seconds="0.1"):
        self.out, self.count = out, processes
        command = ["-m", "jaxdet", "train", HERE / "hosts_config.py", "--out", out / "run", "--set", "workers=1"]
        port = _port()
        self.texts = [out / f"{index}-{port}.txt" for index in range(processes)]
        self.processes = [
            _start([*command, *self._others(port, index)], 4 // processes, self.texts[index], SECONDS_AN_IMAGE=seconds)
            for index in range(processes)
        ]

    def _others(self, port, index):
        names = ["--coordinator", f"localhost:{port}", "--num-processes", self.count, "--process-id", index]
        return names if self.count > 1 else []

    def wait_for_step(self, step):
        deadline = time.monotonic() + PATIENCE
        while not (self.out / "run" / "metrics.jsonl").is_file() or self._last_step() < step:
            assert all(process.poll() is None for process in self.processes), self.said()
            assert time.monotonic() < deadline, f"step {step} never came"
            time.sleep(0.02)

    def _last_step(self):
        lines = (self.out / "run" / "metrics.jsonl").read_text().splitlines()
        return max([json.loads(line)["step"] for line in lines if line.endswith("}")], default=0)

    def end(self):
        try:
            return [process.wait(PATIENCE) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()

    def said(self):
        return "\n".join(text.read_text() for text in self.texts)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    hosts = Hosts(out, 2, seconds="0")
    assert hosts.end() == [0, 0], hosts.said()
    assert [entry.is_dir() for entry in (out / "run" / "model", out / "run" / "best")] == [True, True]
    return out / "run"


@pytest.mark.verify
@pytest.mark.parametrize("victim", [0, 1])
def test_a_lost_process_ends_the_other_and_both_go_on_to_the_same_bits(undisturbed, tmp_path, victim):
    hosts = Hosts(tmp_path, 2)
    hosts.wait_for_step(7)
    killed = time.monotonic()
    hosts.processes[victim].send_signal(signal.SIGKILL)
    codes = hosts.end()
    assert time.monotonic() - killed < 60
    assert codes[victim] == -signal.SIGKILL and codes[1 - victim] == 75, hosts.said()
    lines = hosts.texts[1 - victim].read_text().splitlines()
    expected = (
        rf"jaxdet train: process {victim} \(.+\) of 2 is lost: .* The last saved step is (5|10); the same command"
    )
    assert re.search(expected, lines[-1]) and "stack trace" not in hosts.said()
    hosts = Hosts(tmp_path, 2, seconds="0")
    assert hosts.end() == [0, 0], hosts.said()
    assert re.search(r"continuing from step (5|10) of 20", hosts.said())
    before, after = _state(undisturbed), _state(tmp_path / "run")
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)
    assert _rows(undisturbed) == _rows(tmp_path / "run")


@pytest.mark.verify
@pytest.mark.parametrize("told", [0, 1])
def test_one_is_told_to_stop_and_both_do_and_one_process_goes_on(undisturbed, tmp_path, told):
    hosts = Hosts(tmp_path, 2)
    hosts.wait_for_step(6)
    hosts.processes[told].send_signal(signal.SIGTERM)
    assert hosts.end() == [143, 143], hosts.said()
    step = int(re.search(r"SIGTERM: stopped and saved at step (\d+) of 20", hosts.said())[1])
    assert step >= 6 and (tmp_path / "run" / "checkpoints" / str(step)).is_dir()
    alone = Hosts(tmp_path, 1, seconds="0")
    assert alone.end() == [0] and f"continuing from step {step} of 20" in alone.said(), alone.said()
    _assert_close(undisturbed, tmp_path / "run", 1e-3)


@pytest.mark.verify
def test_two_processes_go_on_with_what_one_began(undisturbed, tmp_path):
    alone = Hosts(tmp_path, 1)
    alone.wait_for_step(6)
    alone.processes[0].send_signal(signal.SIGTERM)
    assert alone.end() == [143], alone.said()
    hosts = Hosts(tmp_path, 2, seconds="0")
    assert hosts.end() == [0, 0] and "continuing from step" in hosts.said(), hosts.said()
    _assert_close(undisturbed, tmp_path / "run", 1e-3)

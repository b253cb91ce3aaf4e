"""Processes that share a folder of frames, one of them killed: no image twice, none lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxdet
from jaxdet.cli.__main__ import main
from jaxdet.evaluation.mot import read_mot
from jaxdet.models import build
from small_detector import FAST_COMPILE, ONE_LEVEL, tiny_config

HERE = Path(__file__).resolve().parent
PATIENCE = 300  # seconds; only a hang takes so long
FRAMES = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A detector, and a sequence of frames whose fourth is broken."""
    folder = tmp_path_factory.mktemp("detect")
    jaxdet.save(
        build(tiny_config(num_classes=2, names=("__background__", "head"), min_size=64, max_size=64, **ONE_LEVEL)),
        folder / "model",
    )
    frames = folder / "crowd-7" / "img1"
    frames.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(1, FRAMES + 1):
        Image.fromarray(generator.integers(0, 256, (64, 64, 3), np.uint8)).save(frames / f"{number:06d}.png")
    broken = frames / "000004.png"
    broken.write_bytes(broken.read_bytes()[:60])
    return folder


def _options(folder, out):
    return [
        str(folder / "crowd-7"), "--weights", str(folder / "model"), "--out", str(out), "--mot", "--no-pictures",
        "--score-threshold", "0.3", "--batch-size", "2",
    ]  # fmt: skip


def _start(folder, out, index, *, devices=1, hold_after=None):
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(HERE.parents[1] / ".jax_cache"),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} {FAST_COMPILE}",
    }
    environment |= {} if hold_after is None else {"HOLD_AFTER": str(hold_after)}
    return subprocess.Popen(
        [sys.executable, str(HERE / "held_detect.py"), *_options(folder, out), "--share", f"{index}/2"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def _end(process):
    text, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, text


def test_of_two_processes_one_is_killed_and_started_again(folder, tmp_path):
    """The undisturbed one, on two devices, ends alone; the other goes on where it was, and joins what both found."""
    out = tmp_path / "shared"
    first, second = _start(folder, out, 0, devices=2), _start(folder, out, 1, hold_after=4)
    part = out / "parts" / "part-00001.jsonl"
    try:
        deadline = time.monotonic() + PATIENCE
        while not part.is_file() or part.read_bytes().count(b"\n") < 3:
            assert second.poll() is None, second.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        second.send_signal(signal.SIGKILL)
        second.communicate()
        code, text = _end(first)
    finally:
        for process in (first, second):
            process.kill()
    written = part.read_bytes()
    whole = written[: written.rindex(b"\n") + 1]
    left = FRAMES // 2 - whole.count(b"\n")
    assert 0 < left < FRAMES // 2, "it was not killed in the middle"
    # How many are left, and whether one is broken, is as it was when the first process ended.
    assert code in (0, 1) and "images remain for others" in text and "Traceback" not in text
    assert not (out / "detections.json").exists()

    part.write_bytes(whole + b'{"file": "' + bytes(folder) + b"/crowd-7/img1/0000")  # killed in the middle of a line
    code, text = _end(_start(folder, out, 1))
    assert code == 1 and "000004.png" in text and "Traceback" not in text
    again = part.read_bytes()
    assert again.startswith(whole)
    lines = [json.loads(line) for path in (out / "parts").glob("part-*") for line in path.read_text().splitlines()]
    found = [line["file"] for line in lines if "error" not in line]
    assert len(found) == len(set(found)) == FRAMES - 1

    alone = tmp_path / "alone"
    assert main(["detect", *_options(folder, alone)]) == 1
    ours, theirs = (json.loads((place / "detections.json").read_text()) for place in (out, alone))
    assert ours["images"] == theirs["images"] and len(ours["images"]) == FRAMES - 1
    assert len(ours["annotations"]) == len(theirs["annotations"]) > FRAMES
    for one, other in zip(ours["annotations"], theirs["annotations"], strict=True):
        assert one.keys() == other.keys() and one["image_id"] == other["image_id"]
        np.testing.assert_allclose(one["bbox"], other["bbox"], atol=5e-3)
    texts = [read_mot(place / "mot" / "crowd-7.txt") for place in (out, alone)]
    assert list(texts[0]) == list(texts[1]) == [number for number in range(1, FRAMES + 1) if number != 4]

"""A new user's whole path, from a wheel in an empty folder: from images without lists to a torchvision model."""

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
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 600  # seconds; only a hang takes so long
CLASSES = ("box", "disc")
SMALL = (
    "model_min_size=64", "model_max_size=64", "batch_size=2", "workers=0", "backbone_weights=None", "weights=None",
    "checkpoint_every=2", "log_every=1", "eval_batch_size=2", "skip_faulty=False", "model_rpn_pre_nms_top_n_train=60",
    "model_rpn_post_nms_top_n_train=40", "optimizer_learning_rate=0.001", "optimizer_warmup_steps=2",
)  # fmt: skip
OPTIONS = [part for option in SMALL for part in ("--set", option)]
HELD_OUT = ("--val-fraction", "0.25")


def draw_set(folder: Path) -> None:
    """Twelve images in ``images``, their xml files in ``annotations``, no lists, and suffixes of any letter case."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for number in range(12):
        image = Image.new("RGB", (64, 48), (230, 230, 230))
        x, y, side = (int(value) for value in (rng.integers(2, 24), rng.integers(2, 12), rng.integers(16, 30)))
        name = CLASSES[number % 2]
        draw, edges = ImageDraw.Draw(image), (x, y, x + side, y + side)
        (draw.rectangle if name == "box" else draw.ellipse)(edges, fill=(200, 40 * (number % 5), 0))
        stem = f"image {number} (a)"
        image.save(folder / "images" / f"{stem}.{'JPG' if number % 3 else 'png'}")
        corners = zip(("xmin", "ymin", "xmax", "ymax"), edges, strict=True)
        box = "".join(f"<{tag}>{edge + 1}</{tag}>" for tag, edge in corners)
        text = f"<annotation><object><name>{name}</name><bndbox>{box}</bndbox></object></annotation>"
        (folder / "annotations" / f"{stem}.xml").write_text(text)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An empty folder beside which the wheel is installed, and the environment that finds it there."""
    pytest.importorskip("hatchling", reason="the package's build backend makes the wheel")
    base = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(base), str(ROOT)], check=True)
    (wheel,) = base.glob("jaxdet-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(base / "site"), str(wheel)], check=True)
    (base / "empty").mkdir()
    return base


@pytest.fixture(scope="module")
def environment(place):
    cache = str(ROOT / ".jax_cache")
    return os.environ | {"PYTHONPATH": str(place / "site"), "JAX_COMPILATION_CACHE_DIR": cache}


@pytest.fixture(scope="module")
def jaxdet(place, environment):
    """Runs a command and gives what it printed."""

    def run(*arguments):
        command = [sys.executable, "-m", "jaxdet", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=place / "empty", env=environment, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def interrupt(arguments, place, environment, after):
    """Starts a training command and stops it once its metrics file has so many lines."""
    command = [sys.executable, "-m", "jaxdet", *map(str, arguments)]
    process = subprocess.Popen(
        command, cwd=place / "empty", env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    metrics, deadline = place / "empty" / "run" / "metrics.jsonl", time.monotonic() + PATIENCE
    while not metrics.is_file() or len(metrics.read_text().splitlines()) < after:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "the run never came so far"
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM, text
    return text


@pytest.mark.verify
def test_check_train_interrupt_lengthen_evaluate_detect_export_and_convert(place, environment, jaxdet):
    empty = place / "empty"
    where = subprocess.run(
        [sys.executable, "-c", "import jaxdet, jaxdet_convert; print(jaxdet.__file__, jaxdet_convert.__file__)"],
        cwd=empty, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert all(path.startswith(str(place / "site")) for path in where.stdout.split())
    draw_set(empty / "set")
    train = ["train", "fasterrcnn_resnet50_fpn", "--data", "set", *HELD_OUT, *OPTIONS]

    text = jaxdet("data", "fasterrcnn_resnet50_fpn", "--data", "set", *HELD_OUT, *OPTIONS, "--check")
    assert "0 errors" in text

    text = interrupt([*train, "--set", "steps=6", "--out", "run"], place, environment, after=3)
    assert "SIGTERM: stopped and saved at step" in text
    text = jaxdet(*train, "--set", "steps=6", "--out", "run")
    assert "continuing from step" in text and (empty / "run" / "model" / "model.json").is_file()
    text = jaxdet(*train, "--set", "steps=8", "--out", "longer", "--from", "run")
    assert "from        run, step 6" in text and "differs     steps" in text

    text = jaxdet("evaluate", "longer", "--data", "set", *HELD_OUT, "--json", "metrics.json")
    assert "AP50" in text and {"AP/box", "AP/disc"} <= json.loads((empty / "metrics.json").read_text()).keys()
    text = jaxdet("detect", "set/images", "--weights", "longer", "--out", "found", "--score-threshold", "0.0")
    assert len(json.loads((empty / "found" / "detections.json").read_text())["images"]) == 12
    jaxdet("export", "longer", "--out", "exported", "--platforms", "cpu")
    assert (empty / "exported" / "program.bin").is_file()

    jaxdet("convert", "longer", "--to-torch", "m.pth")
    assert json.loads((empty / "m.json").read_text())["config"]["transform"]["min_size"] == 64
    jaxdet("convert", "m.pth", "--out", "back")
    script = """
import jaxdet, numpy as np, torch
from jaxdet.saving.model import arrays
from jaxdet.saving.open import open_stored
from jaxdet_convert.torchvision_cpu import import_torchvision
there, back = open_stored("longer").model, jaxdet.load("back")
assert there.config == back.config and back.config.names == ("__background__", "box", "disc")
ours = arrays(back)
for name, value in arrays(there).items():
    np.testing.assert_array_equal(ours[name], value, err_msg=name)
torchvision = import_torchvision()
model = torchvision.models.detection.fasterrcnn_resnet50_fpn(
    weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=64, box_score_thresh=0.0
).eval()
print(model.load_state_dict(torch.load("m.pth", weights_only=True), strict=True))
print(len(model([torch.rand(3, 48, 64)])[0]["boxes"]))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=empty, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All keys matched" in done.stdout

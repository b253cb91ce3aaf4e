"""What a run is made of, through the command: parts of one's own, classifiers, a loss that is not finite."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxdet
from jaxdet.cli.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
OWN = ROOT / "examples" / "own_parts.py"
TINY = Path(__file__).resolve().parent / "tiny_run.py"


def _options(**values):
    return [part for name, value in values.items() for part in ("--set", f"{name}={value}")]


def test_a_backbone_and_a_source_of_ones_own_come_in_by_a_configuration(tmp_path, capsys):
    short = _options(steps=40, train_count=16, val_count=4, eval_batch_size=4, optimizer_warmup_steps=5)
    out = tmp_path / "run"
    assert main(["train", str(OWN), "--out", str(out), *short]) == 0
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) == 40 and np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    assert main(["evaluate", str(out / "model"), "--config", str(OWN), "--batch-size", "4"]) == 0
    assert "disc" in capsys.readouterr().out
    Image.fromarray(np.zeros((96, 96, 3), np.uint8)).save(tmp_path / "dark.png")
    command = ["detect", str(tmp_path / "dark.png"), "--weights", str(out / "model"), "--config", str(OWN)]
    assert main([*command, "--out", str(tmp_path / "found")]) == 0
    # Without the configuration nobody knows the backbone.
    assert main([*command[:4], "--out", str(tmp_path / "found")]) == 1
    assert "has no backbone: pass your own" in capsys.readouterr().err


@pytest.fixture
def folders(tmp_path):
    """Classes that differ by their colour, eight and four images each."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for channel, name in enumerate(("red", "green", "blue")):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (40, 50, 3))
                pixels[..., channel] += 120
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "data"


def test_a_classifier_learns_from_folders(folders, tmp_path, capsys):
    small = _options(
        steps=120, batch_size=6, eval_batch_size=4, workers=0, optimizer_learning_rate=0.01, model_width=0.25,
        label_smoothing=0.1, ema_decay=0.5, optimizer_warmup_steps=4,
    )  # fmt: skip
    config = tmp_path / "config.py"
    config.write_text(
        "from dataclasses import replace\n"
        "from jaxdet.backbones.base import ClassifierTransform\n"
        "from jaxdet.runs import RECIPES\n\n"
        "def config():\n"
        "    run = RECIPES['mobilenet_v1']()\n"
        "    return replace(run, model=replace(run.model, transform=ClassifierTransform(36, 32)))\n"
    )
    out = tmp_path / "run"
    assert main(["train", str(config), "--data", str(folders), "--out", str(out), *small]) == 0
    assert "top1" in capsys.readouterr().out
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()][-1]
    assert metrics["val/top1"] >= 0.9 and metrics["val/top5"] == 1.0
    model = jaxdet.load(out / "model")
    assert model.config.names == ("blue", "green", "red") and model.config.num_classes == 3
    image = str(folders / "val" / "red" / "0.png")
    assert main(["classify", image, "--weights", str(out / "model"), "--top", "1"]) == 0
    assert "red" in capsys.readouterr().out.splitlines()[1]
    assert main(["evaluate", str(out / "model"), "--data", str(folders), "--batch-size", "5"]) == 0
    assert f"{metrics['val/top1']:.3f}" in capsys.readouterr().out


def test_a_loss_that_is_not_finite_stops_and_can_be_replayed(tmp_path, monkeypatch, capsys):
    assert main(["shapes", str(tmp_path / "data"), "--train", "10", "--val", "2"]) == 0
    monkeypatch.setenv("DATA", str(tmp_path / "data"))
    out = tmp_path / "run"
    command = ["train", str(TINY), "--out", str(out)]
    command += _options(workers=0, optimizer_learning_rate=1e30, optimizer_warmup_steps=0, log_every=7)
    capsys.readouterr()
    assert main(command) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    report = json.loads((out / "failure" / "failure.json").read_text())
    assert f"not finite at step {report['step']}: " in error and "loss_box_reg" in error
    assert len(report["pictures"]) == 2 and all(image in error for image in report["pictures"])
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, report["step"] + 1))  # all that went before it
    assert main([*command, "--replay"]) == 0
    shown = dict(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("loss"))
    assert {name: float(value) for name, value in shown.items() if "nan" not in value} == {
        name: pytest.approx(float(value), rel=1e-5)
        for name, value in report["values"].items()
        if name.startswith("loss") and value != "nan"
    }
    assert any(not np.isfinite(float(value)) for value in report["values"].values())

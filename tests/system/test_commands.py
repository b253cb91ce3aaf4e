"""The commands as a user runs them, on small data: what they write, and one clear line for a mistake."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import jaxdet
from jaxdet.cli.__main__ import COMMANDS, main
from jaxdet_convert import read_weights

# The configuration that `jaxdet shapes` writes, of a model that compiles sooner: one level, and a backbone that stays.
SMALL = """
from dataclasses import replace
from pathlib import Path

from jaxdet.heads import AnchorGenerator
from jaxdet.runs import read_config

def config():
    run = read_config(str(Path(__file__).parent / "data" / "config.py"))
    fpn = replace(run.model.fpn, levels=("stage1",), pool=False)
    rpn = replace(run.model.rpn, anchor_generator=AnchorGenerator(((24, 36, 54, 80),), (1.0,)))
    return replace(run, model=replace(run.model, fpn=fpn, rpn=rpn), frozen=("backbone",))
"""


def train(config, out, *more):
    """Two steps, with the smallest options that still go through every branch."""
    small = ["steps=2", "batch_size=2", "eval_batch_size=2", "log_every=2", "max_boxes=4", *more]
    options = [part for option in small for part in ("--set", option)]
    assert main(["train", str(config), "--out", str(out), *options]) == 0


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with drawn data and a detector trained on it."""
    folder = tmp_path_factory.mktemp("commands")
    assert main(["shapes", str(folder / "data"), "--train", "8", "--val", "4"]) == 0
    (folder / "small.py").write_text(SMALL)
    train(folder / "small.py", folder / "run", "torch_weights=True")
    return folder


@pytest.fixture(scope="module")
def files(run):
    """What mistakes are made with."""
    folder = run / "files"
    (folder / "train_only").mkdir(parents=True)
    (folder / "train_only" / "train.json").write_bytes((run / "data" / "train.json").read_bytes())
    (folder / "train_only" / "train").symlink_to(run / "data" / "train")
    (folder / "syntax.py").write_text("import math\nx = (\n")
    (folder / "raises.py").write_text("def config():\n    raise KeyError('key')\n")
    (folder / "missing.py").write_text("import nowhere_at_all\n")
    (folder / "latin.txt").write_bytes(b"caf\xe9\n")
    return folder


def test_training_leaves_a_model_metrics_and_a_curve(run):
    *rows, last = [json.loads(line) for line in (run / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2] and last["step"] == 2 and 0 <= last["val/AP50"] <= 1
    assert all(np.isfinite(row["loss"]) and row["loss"] > 0 and row["gradient_norm"] > 0 for row in rows)
    with Image.open(run / "run" / "losses.png") as curve:
        assert curve.size[0] > 400
    assert any(entry.name.startswith("events.") for entry in (run / "run" / "tensorboard").iterdir())
    model = jaxdet.load(run / "run" / "model")
    weights = read_weights(run / "run" / "model.pth").tensors
    kernel = np.asarray(model.box_predictor.cls_score.kernel[...])
    np.testing.assert_array_equal(weights["roi_heads.box_predictor.cls_score.weight"], kernel.T)
    assert (run / "run" / "model.json").read_text().strip() == (run / "run" / "model" / "model.json").read_text()
    assert model.config.names == ("__background__", "ring", "square", "triangle")
    assert int(model.backbone.stem.norm.count[...]) == 2


@pytest.mark.verify
def test_the_drawn_data_s_own_configuration_trains(run):
    train(run / "data" / "config.py", run / "whole")
    model = jaxdet.load(run / "whole" / "model")
    assert model.config.fpn.levels == ("stage1", "stage2", "stage3")


def test_evaluate_writes_metrics_and_results(run, capsys):
    files = [str(run / "data" / "val.json"), str(run / "data" / "val")]
    out = ["--json", str(run / "metrics.json"), "--results", str(run / "results.json"), "--batch-size", "2"]
    out += ["--curves", str(run / "curves.png"), "--losses", "--max-dets", "120"]
    assert main(["evaluate", str(run / "run" / "model"), *files, *out]) == 0
    shown = capsys.readouterr()
    assert shown.err.count("compiling 128x128 for evaluation ...") == 1 and "AP50" in shown.out
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"AP", "AP50", "AR120", "AP/ring"} <= metrics.keys() and 0 <= metrics["AP50"] <= 1
    terms = [value for name, value in metrics.items() if name.startswith("loss_")]
    assert len(terms) == 4 and metrics["loss"] == pytest.approx(sum(terms)) and metrics["loss"] > 0
    with Image.open(run / "curves.png") as curves:
        assert curves.size[0] > 400
    results = json.loads((run / "results.json").read_text())
    images = {image["id"] for image in json.loads((run / "data" / "val.json").read_text())["images"]}
    assert results and {one["image_id"] for one in results} <= images
    assert "returns up to 120 detections per image for --max-dets; its own limit is 100" in shown.out


def test_crowd_metrics_judge_evaluation_and_training(run, capsys):
    """On data of one class: squares and triangles become regions to be ignored, and an image is without a ring."""
    content = json.loads((run / "data" / "val.json").read_text())
    (ring,) = (category for category in content["categories"] if category["name"] == "ring")
    bare = content["images"][0]["id"]
    kept = [one for one in content["annotations"] if (one["image_id"], one["category_id"]) != (bare, ring["id"])]
    for one in kept:
        one["iscrowd"], one["category_id"] = int(one["category_id"] != ring["id"]), ring["id"]
    rings = run / "rings.json"
    rings.write_text(json.dumps(content | {"annotations": kept, "categories": [ring]}))
    files = [str(rings), str(run / "data" / "val"), "--metrics", "crowd", "--batch-size", "2"]
    out = ["--json", str(run / "heads.json"), "--curves", str(run / "heads.png")]
    assert main(["evaluate", str(run / "run" / "model"), *files, *out]) == 0
    metrics = json.loads((run / "heads.json").read_text())
    assert {"AP", "LAMR", "F1", "recall", "recall_300", "MODA", "MODA_image"} <= metrics.keys()
    assert 0 <= metrics["AP"] <= 1 and 0 < metrics["LAMR"] <= 1 and metrics["recall_300"] <= metrics["recall"]
    with Image.open(run / "heads.png") as curves:
        assert curves.size[0] > 1000
    regions = sum(one["iscrowd"] for one in kept)
    said = capsys.readouterr().out
    assert f"{len(kept) - regions} boxes and {regions} ignored regions on 4 images" in said and "LAMR" in said

    train(run / "small.py", run / "heads", "metrics=crowd", f"val_annotations={rings}")
    last = json.loads((run / "heads" / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"val/AP", "val/LAMR", "val/MODA", "val/recall_300"} <= last.keys()
    assert "LAMR" in capsys.readouterr().out and (run / "heads" / "best" / "model.json").is_file()
    with Image.open(run / "heads" / "precision_recall.png") as curves:
        assert curves.size[0] > 1000


def test_detect_annotates_images_and_survives_a_broken_one(run, capsys):
    images = run / "pictures"
    images.mkdir()
    source = sorted((run / "data" / "val").iterdir())[0]
    (images / "good.jpg").write_bytes(source.read_bytes())
    (images / "broken.jpg").write_bytes(source.read_bytes()[:200])
    command = ["detect", str(images), "--weights", str(run / "run" / "model"), "--out", str(run / "found")]
    assert main([*command, "--score-threshold", "0.01"]) == 1
    shown = capsys.readouterr()
    assert "broken.jpg" in shown.out + shown.err and shown.err.count("compiling 128x128 ...") == 1
    content = json.loads((run / "found" / "detections.json").read_text())
    assert [image["file_name"] for image in content["images"]] == [str(images / "good.jpg")]
    height, width = content["images"][0]["height"], content["images"][0]["width"]
    assert content["annotations"]
    for found in content["annotations"]:
        x, y, w, h = found["bbox"]
        assert -1e-3 <= x and -1e-3 <= y and x + w <= width + 1e-2 and y + h <= height + 1e-2
        assert found["name"] == content["categories"][found["category_id"] - 1]["name"]
    with Image.open(run / "found" / "good.png") as annotated:
        assert annotated.size == (width, height)
        plain = np.asarray(Image.open(images / "good.jpg").convert("RGB"))
        assert (np.asarray(annotated.convert("RGB")) != plain).any()  # its boxes are drawn


def test_classify_prints_the_most_likely(run, tmp_path, capsys):
    jaxdet.save(jaxdet.create_model("mobilenet_v1", num_classes=6), tmp_path / "model")
    image = sorted((run / "data" / "val").iterdir())[0]
    assert main(["classify", str(image), "--weights", str(tmp_path / "model"), "--top", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(image) and len(lines) == 4 and all("class" in line for line in lines[1:])


@pytest.mark.parametrize(
    "command, says",
    [
        (["train", "nowhere.py", "--out", "x"], "nowhere.py: no such configuration file"),
        (["train", "{data}/config.py", "--out", "x", "--set", "step=3"], "did you mean 'steps'"),
        (["train", "{data}/config.py", "--out", "x", "--set", "steps"], "--set takes KEY=VALUE"),
        (["train", "fasterrcnn_resnet50_fp", "--out", "x"], "did you mean 'fasterrcnn_resnet50_fpn'"),
        (["train", "finetune", "--data", "nowhere", "--out", "x"], "nowhere"),
        (
            ["train", "finetune", "--data", "{data}", "--set", "weights=none.pth", "--out", "x"],
            "no such file or folder",
        ),
        (["train", "resnet50", "--data", "{data}", "--out", "x"], "the model is a classifier"),
        (["evaluate", "{run}/model"], "give the data"),
        (["detect", "nowhere.jpg", "--weights", "{run}/model"], "nowhere.jpg: no such file"),
        (["detect", "{data}/val", "--weights", "{data}"], "not a jaxdet model"),
        (["detect", "{data}/val", "--weights", "{data}/val.json"], "val.json"),
        (["evaluate", "{run}/model", "nowhere.json", "{data}/val"], "nowhere.json"),
        (["evaluate", "{run}/model", "{data}/val.json", "{data}/train2"], "is missing"),
        (
            ["evaluate", "{run}/model", "{data}/val.json", "{data}/val", "--metrics", "crowd"],
            "a dataset with one class, and it has 3 (ring",
        ),
        (
            ["train", "{data}/config.py", "--out", "x", "--set", "metrics=crowd", "--set", "batch_size=2"],
            "a dataset with one class, and it has 3 (ring",
        ),
        (
            ["train", "{data}/config.py", "--out", "x", "--set", "metrics=voc"],
            "metrics must be one of coco, crowd, not 'voc'",
        ),
        (["detect", "{data}/val", "--weights", "{run}/model", "--mot"], "say which with --mot-class"),
        (["detect", "{data}/val", "--weights", "{run}/model", "--out", "gs://bucket/x"], "a folder on a disk"),
        (["detect", "{data}/val", "--weights", "{run}/model", "--share", "2/2"], "give I/N"),
        (["summary", "resnet51", "--size", "64", "64"], "did you mean"),
        (["train", "{files}/syntax.py", "--out", "x"], "syntax.py:2: SyntaxError"),
        (["train", "{files}/raises.py", "--out", "x"], "raises.py:2: KeyError: 'key'"),
        (
            ["train", "{files}/missing.py", "--out", "x"],
            "missing.py:1: ModuleNotFoundError",
        ),
        (["train", "{data}/config.py", "--out", "{files}/raises.py"], "raises.py is a file: give a folder"),
        (["train", "{data}/config.py", "--out", "x", "--set", "steps=abc"], "option 'steps' must be a whole number"),
        (
            ["train", "{data}/config.py", "--out", "x", "--set", "model_rpn_anchor_generator=16"],
            "option 'model_rpn_anchor_generator' must be an AnchorGenerator",
        ),
        (["train", "{data}/config.py", "--out", "x", "--from", "nowhere"], "this is not the folder of a run"),
        (["train", "{data}/config.py", "--out", "x", "--from", "{data}"], "this is not the folder of a run"),
        (
            ["train", "{data}/config.py", "--out", "x", "--set", "batch_size=2", "--set", "frozen=['backbon']"],
            "did you mean 'backbone'?",
        ),
        (
            ["train", "{data}/config.py", "--out", "x", "--set", "batch_size=2", "--set", "weights={data}"],
            "not a jaxdet",
        ),
        (
            ["plan", "finetune", "--topology", "v5e:16x16", "--set", "steps=abc"],
            "option 'steps' must be a whole number",
        ),
        (["evaluate", "{run}/model", "--data", "{files}/train_only"], "a training set and no validation set"),
        (["evaluate", "{data}", "{data}/val.json", "{data}/val"], "not a jaxdet model"),
        (["detect", "{data}/val", "--weights", "fasterrcnn_resnet50_fp"], "did you mean 'fasterrcnn_resnet50_fpn'?"),
        (["classify", "{data}/val", "--weights", "{run}"], "holds a detector; use jaxdet detect"),
        (["classify", "{data}/val", "--weights", "nowhere"], "no such file or folder"),
        (["convert", "{files}", "--to-torch", "x.pth"], "it is a directory"),
        (["convert", "{data}/val.json", "--names", "{files}/latin.txt"], "latin.txt: not a text file in UTF-8"),
        (["export", "nowhere", "--out", "x"], "no such file or folder"),
        (["export", "{run}", "--out", "{data}"], "exists and is not an export"),
        (["export", "{run}", "--out", "x", "--canvas", "7x7"], "multiples of 32"),
        (["summary", "{data}", "--size", "64", "64"], "not a jaxdet model"),
        (["shapes", "x", "--train", "0"], "at least 1 image each"),
        (["data", "{data}/config.py"], "say what to do"),
    ],
)
def test_a_mistake_costs_one_clear_line(run, files, tmp_path, monkeypatch, capsys, command, says):
    monkeypatch.chdir(tmp_path)
    places = {"data": run / "data", "run": run / "run", "files": files}
    assert main([part.format(**places) for part in command]) == 1
    error = capsys.readouterr().err.strip()
    assert says in error and "Traceback" not in error
    assert sum(line.startswith("jaxdet ") for line in error.splitlines()) == 1
    assert not list(tmp_path.iterdir()), "something was left behind"


def test_a_run_is_a_model_for_every_command_and_it_is_told_which(run, tmp_path, capsys):
    files = [str(run / "data" / "val.json"), str(run / "data" / "val")]
    out = str(tmp_path / "found")
    for command in (
        ["evaluate", str(run / "run"), *files, "--batch-size", "2"],
        ["detect", files[1], "--weights", str(run / "run"), "--out", out, "--limit", "1", "--no-pictures"],
        ["summary", str(run / "run"), "--size", "64", "64"],
        ["convert", str(run / "run"), "--to-torch", str(tmp_path / "model.pth")],
    ):
        assert main(command) == 0, command
        assert f"{run / 'run'} is a run: using best/, the model of the best evaluation, after step 2" in (
            capsys.readouterr().err
        ), command


def test_help_comes_at_once_and_lists_every_command():
    shown = subprocess.run([sys.executable, "-m", "jaxdet", "--help"], capture_output=True, text=True, check=True)
    assert all(f"\n  {name} " in shown.stdout or f"    {name} " in shown.stdout for name in COMMANDS)

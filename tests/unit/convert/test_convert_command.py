"""``jaxdet convert``, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import jaxdet
from jaxdet.cli.__main__ import main
from parity.twins.mobilenet_v1 import MobileNetV1

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def classifier(tmp_path):
    path = tmp_path / "mobilenet.pth"
    torch.save({"state_dict": MobileNetV1(num_classes=6).state_dict(), "epoch": 3}, path)
    return path


@pytest.fixture
def detection_weights(detector, tmp_path):
    path = tmp_path / "shapes.pth"
    torch.save(detector.state_dict(), path)
    return path


def run(capsys, *argv):
    status = main(["convert", *map(str, argv)])
    output = capsys.readouterr()
    return status, output.out, output.err


def test_there_and_back(capsys, classifier, empty_folder):
    status, out, err = run(capsys, classifier)
    assert (status, err) == (0, "")
    for part in (
        "mobilenet_v1, 6 classes, 214,614 parameters", "torch-zip, under 'state_dict'", "batch norm, eps 1e-05",
        "unused    epoch (other entries of the file)", "jaxdet classify IMAGES --weights mobilenet.jaxdet",
    ):  # fmt: skip
        assert part in out
    status, out, err = run(capsys, "mobilenet.jaxdet", "--to-torch", "new/back.pth")
    assert (status, err) == (0, "") and "164 tensors" in out
    back, wanted = torch.load("new/back.pth", weights_only=True), torch.load(classifier, weights_only=True)
    assert all(torch.equal(back[name], value) for name, value in wanted["state_dict"].items())
    MobileNetV1(num_classes=6).load_state_dict(back, strict=True)
    assert {path.name for path in empty_folder.iterdir()} == {"mobilenet.jaxdet", "new"}
    assert {path.name for path in (empty_folder / "new").iterdir()} == {"back.pth", "back.json"}


def test_a_detector_with_names_and_options(capsys, detection_weights, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("a\nb\nc\nd\n")
    status, out, err = run(
        capsys, detection_weights, "--model", "fasterrcnn_resnet50_fpn", "--out", "model", "--names", names,
        "--norm-eps", "0.001", "--set", "box_score_thresh=0.3", "--set", "canvas=fast",
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert "5 classes, named" in out and "eps 0.001" in out and "jaxdet detect IMAGES --weights model" in out
    assert "read      fpn_out_channels = 32" in out
    config = jaxdet.load("model").config
    assert config.names == ("__background__", "a", "b", "c", "d")
    assert (config.box.score_thresh, config.canvas, config.backbone.norm.eps) == (0.3, "fast", 0.001)
    assert json.loads(Path("model/model.json").read_text())["origin"] == ["torchvision", "new"]


def test_respelling_without_a_model(capsys, detection_weights, empty_folder):
    status, _, _ = run(capsys, detection_weights, "--to-torch", "old.pth", "--spelling", "old")
    assert status == 0 and sorted(path.name for path in empty_folder.iterdir()) == ["old.json", "old.pth"]
    assert "rpn.head.conv.weight" in torch.load("old.pth", weights_only=True)


def test_a_fresh_predictor_is_said(capsys, classifier):
    status, out, _ = run(capsys, classifier, "--num-classes", 4, "--fresh-predictor")
    assert status == 0
    assert "dropped   fc.bias, fc.weight" in out and "fresh     fc.bias, fc.kernel" in out and "train" in out


def test_a_detector_on_a_classifier(capsys, classifier):
    status, out, err = run(
        capsys, "fasterrcnn_mobilenet_v1_fpn", "--backbone-weights", classifier, "--num-classes", 4,
        "--set", "fpn_out_channels=16", "--set", "box_representation_size=16",
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert "dropped: fc.bias, fc.weight" in out
    assert jaxdet.load("fasterrcnn_mobilenet_v1_fpn.jaxdet").config.num_classes == 4


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["missing.pth"], "no such file or folder"),
        (["resnet5"], "did you mean 'resnet50'"),
        (["mobilenet_v1"], "no official weights of mobilenet_v1: give a weights file"),
        (["fasterrcnn_darknet53_fpn"], "--backbone-weights"),
        (["CLASSIFIER", "--model", "resnet50"], "are of 'mobilenet_v1' (6 classes), and not of 'resnet50'"),
        (["CLASSIFIER", "--model", "mobilnet_v1"], "did you mean 'mobilenet_v1'"),
        (["CLASSIFIER", "--num-classes", "4"], "--fresh-predictor"),
        (["CLASSIFIER", "--container", "model"], "no container 'model'"),
        (["CLASSIFIER", "--set", "width"], "KEY=VALUE"),
        (["CLASSIFIER", "--set", "num_classes=4"], "give --num-classes instead"),
        (["CLASSIFIER", "--set", "activasion=relu"], "did you mean 'activation'"),
        (["CLASSIFIER", "--set", "width=0.5"], "expected (3, 3, 3, 16)"),
        (["CLASSIFIER", "--spelling", "old"], "--to-torch"),
        (["CLASSIFIER", "--to-torch", "x.pth", "--spelling", "old"], "no spelling 'old'"),
        (["CLASSIFIER", "--names", "none.txt"], "none.txt"),
        (["mobilenet_v1", "--backbone-weights", "CLASSIFIER"], "is for detectors"),
        (["fasterrcnn_mobilenet_v1_fpn", "--backbone-weights", "none.pth"], "none.pth"),
        (["."], "it is a directory"),
    ],
)
def test_a_mistake_is_said_and_leaves_nothing(capsys, classifier, empty_folder, argv, line):
    status, _, err = run(capsys, *[str(classifier) if arg == "CLASSIFIER" else arg for arg in argv])
    assert status == 1
    assert err.startswith("jaxdet convert: ") and line in err
    assert "Traceback" not in err
    assert not any(empty_folder.iterdir())


def test_what_is_there_stays(capsys, classifier, empty_folder, monkeypatch):
    (empty_folder / "results").mkdir()
    (empty_folder / "results" / "thesis.tex").write_text("years of work")
    status, _, err = run(capsys, classifier, "--out", "results")
    assert status == 1 and "results exists and is not a model" in err
    assert [path.name for path in (empty_folder / "results").iterdir()] == ["thesis.tex"]
    assert [path.name for path in empty_folder.iterdir()] == ["results"]


def test_a_jaxdet_model_is_written_as_it_is(capsys, classifier):
    run(capsys, classifier)
    assert "already; --to-torch" in run(capsys, "mobilenet.jaxdet")[2]
    err = run(capsys, "mobilenet.jaxdet", "--to-torch", "x.pth", "--norm-eps", "0.1", "--out", "y")[2]
    assert "leave out --out, --norm-eps" in err


def test_nothing_is_replaced_unless_told(capsys, classifier):
    run(capsys, classifier)
    status, _, err = run(capsys, classifier, "--set", "width=0.25")
    assert status == 1 and "mobilenet.jaxdet already has a model: overwrite=True (--overwrite)" in err
    status, _, err = run(capsys, classifier, "--to-torch", "b.pth", "--out", "mobilenet.jaxdet")
    assert status == 1 and "already has a model" in err and not Path("b.pth").exists()
    Path("mobilenet.jaxdet/.DS_Store").write_text("")
    assert run(capsys, classifier, "--overwrite")[0] == 0
    Path("mobilenet.jaxdet/notes.txt").write_text("")
    assert "has other files beside its model, notes.txt" in run(capsys, classifier, "--overwrite")[2]
    assert run(capsys, classifier, "--to-torch", "a.pth")[0] == 0
    status, _, err = run(capsys, classifier, "--to-torch", "a.pth")
    assert status == 1 and "a.pth already exists: overwrite=True (--overwrite) replaces it and a.json" in err
    assert run(capsys, classifier, "--to-torch", "a.pth", "--overwrite")[0] == 0


@pytest.mark.parametrize(
    ("classes", "count", "names"), [("cat,dog", 2, ("cat", "dog")), ("names.txt", 2, ("x", "y z")), ("7", 7, ())]
)
def test_classes_are_exchanged(capsys, classifier, empty_folder, classes, count, names):
    (empty_folder / "names.txt").write_text("x\ny z\n")
    run(capsys, classifier)
    status, out, err = run(capsys, "mobilenet.jaxdet", "--classes", classes, "--out", "other")
    assert (status, err) == (0, "") and f"classes   {count}" in out and "train it" in out
    model, before = jaxdet.load("other"), jaxdet.load("mobilenet.jaxdet")
    assert (model.config.num_classes, model.config.names) == (count, names)
    assert (model.stem.conv.kernel[...] == before.stem.conv.kernel[...]).all() and model.origin == before.origin


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--classes", "none.txt", "--out", "x"], "none.txt: no such file"),
        (["--classes", "a,a", "--out", "x"], "duplicate class names: a"),
        (["--classes", "a,b"], "give --out DIR for a jaxdet model"),
        (["--classes", "a,b", "--out", "mobilenet.jaxdet"], "already has a model"),
        (["--classes", "a,b", "--num-classes", "3", "--out", "x"], "leave out --num-classes"),
    ],
)
def test_classes_that_are_none_are_refused(capsys, classifier, empty_folder, argv, line):
    run(capsys, classifier)
    status, _, err = run(capsys, "mobilenet.jaxdet", *argv)
    assert status == 1 and line in err and [path.name for path in empty_folder.iterdir()] == ["mobilenet.jaxdet"]


def test_official_weights_that_are_nowhere(capsys, empty_folder, monkeypatch):
    import urllib.request

    def refuse(url, timeout):
        raise OSError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    status, _, err = run(capsys, "fasterrcnn_resnet50_fpn")
    assert status == 1 and "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth" in err and "put that file into" in err
    assert err.count("\n") == 1 and not any(empty_folder.iterdir())

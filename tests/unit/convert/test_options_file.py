"""The options beside a state dict: written, taken up, refused where they are others, and missed where absent."""

from __future__ import annotations

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

import jaxdet
from filled_model import filled
from jaxdet.backbones.base import ClassifierTransform
from jaxdet.cli.__main__ import main
from jaxdet.heads import AnchorGenerator
from jaxdet.inference import with_options
from jaxdet.models import model_config
from jaxdet.nn import NormConfig, Numerics
from jaxdet.nn.parameters import arrays
from jaxdet.saving.model import is_model
from jaxdet_convert import (
    convert_weights,
    load_backbone,
    load_torch,
    official_config,
    options_file,
    save_model,
    save_torch,
    to_torch,
)
from jaxdet_convert.load import recognise_weights
from jaxdet_convert.read.weights import Weights
from small_detector import tiny_config

NAMES = ("__background__", "cat", "dog", "red fish")


@pytest.fixture(scope="module")
def model():
    """Every option that no state dict tells is another than its default."""
    config = tiny_config(
        min_size=160, max_size=224, rpn_anchor_generator=AnchorGenerator((20, 40, 60, 90), (1.5,)), names=NAMES,
        image_mean=(0.5, 0.4, 0.3), bbox_reg_weights=(1.0, 2.0, 3.0, 4.0), box_score_thresh=0.25, canvas="fast",
        backbone_norm=NormConfig("frozen", eps=1e-3), backbone_negative_slope=0.25,
    )  # fmt: skip
    model = filled(config)
    model.numerics = Numerics(precision="default")
    model.origin = ("torchvision", "new")
    return model


@pytest.mark.parametrize("name", ["m.pth", "m.tar", "m"])
def test_a_detector_there_and_back(model, tmp_path, caplog, name):
    beside, count = save_model(model, tmp_path / name)
    assert beside == tmp_path / "m.json" and count == len(to_torch(model))
    again = load_torch(tmp_path / name)
    assert (again.config, again.numerics, again.origin) == (model.config, model.numerics, model.origin)
    jax.tree.map(np.testing.assert_array_equal, arrays(again), arrays(model))
    assert again.backbone.stem.norm.eps == 1e-3 and caplog.text == ""


def test_the_commands_there_and_back(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    jaxdet.save(model, "run")
    assert main(["convert", "run", "--to-torch", "m.pth"]) == 0
    assert "m.json: the model's options" in capsys.readouterr().out
    assert json.loads((tmp_path / "m.json").read_text()) == json.loads((tmp_path / "run" / "model.json").read_text())
    assert main(["convert", "m.pth", "--out", "back"]) == 0
    out = capsys.readouterr().out
    assert "options   m.json\n" in out and "assumed" not in out
    assert jaxdet.load("back").config == model.config
    assert main(["convert", "m.pth", "--out", "other", "--set", "min_size=96"]) == 0
    assert "changed   min_size: 160 -> 96 (given; m.json differs)" in capsys.readouterr().out
    assert jaxdet.load("other").config == replace(model.config, transform=replace(model.config.transform, min_size=96))
    assert not is_model(tmp_path)


def test_what_nobody_told_is_one_line(model, tmp_path, monkeypatch, capsys, caplog):
    save_torch(tmp_path / "m.pth", to_torch(model))
    result = convert_weights(
        tmp_path / "m.pth", box_score_thresh=0.5, rpn_anchor_generator=AnchorGenerator((1,) * 4, (1,))
    )
    assert result.assumed == (
        "min_size 800; max_size 1333; image_mean 0.485, 0.456, 0.406; image_std 0.229, 0.224, 0.225; "
        "bbox_reg_weights 10, 10, 5, 5; box_sampling_ratio 2; box_nms_thresh 0.5; box_detections_per_img 100; "
        "names none; norm_eps 1e-05"
    )
    load_torch(tmp_path / "m.pth", rpn_anchor_generator=AnchorGenerator((4, 8, 12, 16), (1.0,)), norm_eps=1e-3)
    (record,) = caplog.records
    assert "assumed, as weights do not contain it: min_size 800" in record.message
    assert "names none" in record.message and "norm_eps" not in record.message and "anchors" not in record.message
    monkeypatch.chdir(tmp_path)
    generator = '{"type": "AnchorGenerator", "sizes": [[4], [8], [12], [16]], "aspect_ratios": [[1], [1], [1], [1]]}'
    assert main(["convert", "m.pth", "--set", f"rpn_anchor_generator={generator}"]) == 0
    assert sum(line.startswith("assumed   min_size 800") for line in capsys.readouterr().out.splitlines()) == 1


def test_a_classifier_there_and_back(tmp_path, caplog):
    transform = ClassifierTransform(40, 32, (0.5,) * 3, (0.5,) * 3)
    config = model_config("mobilenet_v1", width=0.25, num_classes=2, names=("a", "b"), transform=transform)
    classifier = filled(replace(config, negative_slope=0.25))
    save_model(classifier, tmp_path / "c.pth")
    again = load_torch(tmp_path / "c.pth")
    assert again.config == classifier.config and caplog.text == ""
    detector, _ = load_backbone(filled(tiny_config()), tmp_path / "c.pth")
    assert detector.config.backbone.negative_slope == 0.25 and detector.config.transform.image_mean == (0.5,) * 3
    (tmp_path / "c.json").unlink()
    assert load_torch(tmp_path / "c.pth").config.transform != transform
    assert "transform ClassifierTransform(resize 256, crop 224" in caplog.text and "names none" in caplog.text


def test_given_options_go_before_those_beside(model, tmp_path, caplog):
    save_model(model, tmp_path / "m.pth")
    again = load_torch(tmp_path / "m.pth", names=("__background__", "x", "y", "z"), norm_eps=1e-4, precision="high")
    assert again.config.names[1] == "x" and again.backbone.stem.norm.eps == 1e-4
    assert again.numerics == Numerics(precision="high") and again.config.transform == model.config.transform
    assert "names: __background__, cat, dog, red fish -> __background__, x, y, z (given; m.json differs)" in caplog.text
    fewer = load_torch(tmp_path / "m.pth", num_classes=2, fresh_predictor=True)
    assert (fewer.config.num_classes, fewer.config.names) == (2, ())
    with pytest.raises(ValueError, match="did you mean 'min_size'"):
        load_torch(tmp_path / "m.pth", min_sice=3)


def _edited(text, *changes):
    content = json.loads(text)
    for path, value in changes:
        place = content
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    "edit, says",
    [
        (lambda text: text[:-30], "it is not JSON"),
        (lambda text: '{"learning_rate": 0.1}', "does not describe a jaxdet model"),
        (lambda text: "[]", "does not describe a jaxdet model"),
        (lambda text: b"\xff\xfe\x00", "it is not JSON"),
        (lambda text: "[" * 100_000, "nested too deep|it is not JSON"),
        (lambda text: _edited(text, (("format",), 2)), "its format is 2, but this version of jaxdet reads 1"),
        (lambda text: _edited(text, (("more",), 2)), "has unknown keys: 'more'"),
        (lambda text: _edited(text, (("config", "transform", "min_size"), "large")), "min_size is 'large'"),
        (lambda text: _edited(text, (("config", "transform", "image_mean"), [1, 2])), "must be a list of 3"),
        (lambda text: _edited(text, (("config", "box", "score_thresh"), True)), "score_thresh is True"),
        (lambda text: _edited(text, (("config", "transform", "min_sise"), 3)), "did you mean 'min_size'"),
        (lambda text: _edited(text, (("config", "names"), ["a"])), "1 class names for num_classes=4"),
        (lambda text: _edited(text, (("config",), {"type": "NormConfig"})), "its config is not a model's"),
        (lambda text: _edited(text, (("numerics",), {"type": "NormConfig"})), "its numerics are not a model's"),
        (lambda text: _edited(text, (("origin",), "x")), "its origin is 'x'"),
        (lambda text: text.replace("160", "NaN"), "min_size is nan"),
        (lambda text: _edited(text, (("config", "box", "representation_size"), 48)), "does not fit the weights"),
        (lambda text: _edited(text, (("config", "rpn", "anchor_generator", "aspect_ratios"), [[1, 2]] * 4)),
         "does not fit the weights: the weights have 1 anchors"),
        (lambda text: _edited(text, (("config", "backbone"), {"type": "ResNetConfig"})),
         "describes a detector on a ResNet, but the weights are of a detector on a MobileNetV1"),
    ],
)  # fmt: skip
def test_another_file_in_its_place_is_refused_with_its_name(model, tmp_path, edit, says):
    beside, _ = save_model(model, tmp_path / "m.pth")
    text = edit(beside.read_text())
    beside.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ValueError, match=says) as found:
        load_torch(tmp_path / "m.pth")
    assert str(found.value).startswith(str(beside)) and "move it away" in str(found.value)


def test_nothing_is_replaced_unless_told_and_nothing_else_ever(model, tmp_path):
    save_model(model, tmp_path / "m.pth")
    with pytest.raises(ValueError, match=r"m.pth already exists"):
        save_model(model, tmp_path / "m.pth")
    with pytest.raises(ValueError, match=r"m.json already exists"):
        save_model(model, tmp_path / "m.pt")
    save_model(model, tmp_path / "m.pth", overwrite=True)
    (tmp_path / "x.json").write_text('{"years": "of work"}')
    with pytest.raises(ValueError, match=r"x.json exists and does not contain a model's options"):
        save_model(model, tmp_path / "x.pth", overwrite=True)
    assert not (tmp_path / "x.pth").exists() and (tmp_path / "x.json").read_text() == '{"years": "of work"}'
    with pytest.raises(ValueError, match=r"gs://bucket/m.pth: a state dict can only be written to a local disk"):
        save_model(model, "gs://bucket/m.pth")
    with pytest.raises(ValueError, match=r"name the state dict .pth"):
        save_model(model, tmp_path / "y.json")


def test_options_never_lie_beside_other_weights_and_survive_a_full_disk(model, tmp_path, monkeypatch):
    beside, _ = save_model(model, tmp_path / "m.pth")
    before = beside.read_bytes()

    def full(path, tensors):
        assert not beside.exists()
        raise OSError("no space left on device")

    monkeypatch.setattr(options_file, "save_torch", full)
    with pytest.raises(OSError, match="no space"):
        save_model(with_options(model, min_size=96), tmp_path / "m.pth", overwrite=True)
    assert beside.read_bytes() == before and load_torch(tmp_path / "m.pth").config == model.config


def test_a_model_that_does_not_fit_is_not_written(model, tmp_path):
    other = jaxdet.with_classes(model, 3)
    other.config = model.config
    with pytest.raises(ValueError, match="does not fit its configuration"):
        save_model(other, tmp_path / "m.pth")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2", "resnet50", "resnet101_v1"])
def test_official_configurations_are_what_the_files_give(name):
    """The names and shapes of the published files: those of the first detector without counters of batches."""
    config = official_config(name)
    counted = name != "fasterrcnn_resnet50_fpn"
    tensors = _tensors(config)
    found = recognise_weights(Weights(tensors, "test"))
    told = dict(found.options)
    rebuilt = model_config(found.name, **told)
    backbone = getattr(config, "backbone", config)
    assert backbone.norm.kind == ("batch" if counted else "frozen")
    if hasattr(config, "box"):
        assert config.backbone.norm.eps == (1e-5 if counted else 0.0) and len(config.names) == config.num_classes == 91
        rebuilt = replace(rebuilt, names=config.names)
        rebuilt = replace(rebuilt, backbone=replace(rebuilt.backbone, norm=config.backbone.norm))
    else:
        assert config.transform.resize == (256 if name.endswith("_v1") else 232)
        rebuilt = replace(rebuilt, transform=config.transform)
    assert rebuilt == config


def _tensors(config):
    from flax import nnx

    from jaxdet.models import abstract
    from jaxdet.nn.parameters import fill, flatten

    empty = abstract(config)
    zeros = {path: np.zeros(one.shape, one.dtype) for path, one in flatten(nnx.state(empty)).items()}
    return to_torch(fill(empty, zeros))

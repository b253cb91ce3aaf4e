"""`create_model` with weights: official ones by name, files and folders, and what it refuses."""

from __future__ import annotations

import enum
import hashlib
import logging

import numpy as np
import pytest

import jaxdet
from filled_model import filled
from jaxdet.models import model_config
from jaxdet.saving.model import arrays
from jaxdet.saving.resolve import weights_of
from jaxdet_convert import save_torch, to_torch
from jaxdet_convert.official import OFFICIAL, OfficialWeights

SMALL = {"width": 0.125, "num_classes": 4}


@pytest.fixture(scope="module")
def stored():
    return filled(model_config("mobilenet_v1", **SMALL))


@pytest.fixture(scope="module")
def file(stored, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "m.pth"
    save_torch(path, to_torch(stored))
    return path


def same(model, stored):
    ours, theirs = arrays(model), arrays(stored)
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[path], theirs[path]) for path in ours)


def test_the_names_are_torchvisions():
    assert jaxdet.list_weights("resnet50") == ["IMAGENET1K_V1", "IMAGENET1K_V2"]
    assert jaxdet.list_weights("fasterrcnn_resnet50_fpn_v2") == ["COCO_V1"]
    assert jaxdet.list_weights("fasterrcnn_resnet50_fpn") == ["COCO_V1"]
    assert jaxdet.list_weights("darknet53") == []
    with pytest.raises(ValueError, match=r"unknown model 'resnet51'.*did you mean 'resnet50'"):
        jaxdet.list_weights("resnet51")


def test_every_way_to_name_official_weights():
    class ResNet50_Weights(enum.Enum):
        IMAGENET1K_V1 = 1

    assert weights_of("resnet50", "DEFAULT") == weights_of("resnet50", "IMAGENET1K_V2") == "resnet50_v2"
    assert weights_of("resnet50", ResNet50_Weights.IMAGENET1K_V1) == "resnet50_v1"
    assert weights_of("resnet50", "ResNet50_Weights.IMAGENET1K_V1") == "resnet50_v1"
    assert weights_of("fasterrcnn_resnet50_fpn", "COCO_V1") == "fasterrcnn_resnet50_fpn"
    with pytest.raises(ValueError, match=r"resnet50 has DEFAULT, IMAGENET1K_V1, IMAGENET1K_V2.*did you mean"):
        weights_of("resnet50", "IMAGENET1K_V3")
    with pytest.raises(ValueError, match="darknet53 has no official weights"):
        weights_of("darknet53", "DEFAULT")


def test_official_weights_from_the_cache(stored, file, tmp_path, monkeypatch):
    """The default ones, with an option that no weights hold."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    (tmp_path / f"m-{digest}.pth").write_bytes(file.read_bytes())
    monkeypatch.setenv("JAXDET_CACHE", str(tmp_path))
    monkeypatch.setitem(OFFICIAL, "mobilenet_v1", OfficialWeights(f"m-{digest}.pth", "IMAGENET1K_V1", resize=128))
    assert jaxdet.list_weights("mobilenet_v1") == ["IMAGENET1K_V1"]
    model = jaxdet.create_model("mobilenet_v1", weights="DEFAULT", names=("a", "b", "c", "d"))
    same(model, stored)
    assert model.config.names == ("a", "b", "c", "d") and model.config.transform.resize == 128


def test_a_file_and_a_folder(stored, file, tmp_path, caplog):
    model = jaxdet.create_model("mobilenet_v1", weights=file, negative_slope=0.2, dtype="bfloat16")
    same(model, stored)
    assert model.config.negative_slope == 0.2 and model.numerics.dtype == "bfloat16"
    jaxdet.save(stored, tmp_path / "model")
    with caplog.at_level(logging.WARNING, "jaxdet"):
        model = jaxdet.create_model(
            "mobilenet_v1", weights=tmp_path / "model", num_classes=4, negative_slope=0.3, dtype="bfloat16"
        )
    same(model, stored)
    assert model.config.negative_slope == 0.3 and model.numerics.dtype == "bfloat16"
    assert "width: 0.25 -> 0.125, as in the weights" in caplog.text and "slope" not in caplog.text


def test_what_does_not_belong_together_is_refused(file, stored, tmp_path):
    jaxdet.save(stored, tmp_path / "model")
    with pytest.raises(ValueError, match=r"these weights are of 'mobilenet_v1' .4 classes., and not of 'resnet50'"):
        jaxdet.create_model("resnet50", weights=file)
    with pytest.raises(ValueError, match="model has a MobileNetV1, but resnet50 is another kind of model"):
        jaxdet.create_model("resnet50", weights=tmp_path / "model")
    for weights in (file, tmp_path / "model"):
        with pytest.raises(ValueError, match=r"4 classes.* num_classes=9"):
            jaxdet.create_model("mobilenet_v1", weights=weights, num_classes=9)
    with pytest.raises(ValueError, match="weights or backbone_weights, not both"):
        jaxdet.create_model("fasterrcnn_mobilenet_v1_fpn", weights=file, backbone_weights=file)
    with pytest.raises(ValueError, match="no such file or folder"):
        jaxdet.create_model("mobilenet_v1", weights="absent/m.pth")

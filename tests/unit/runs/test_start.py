"""What a run begins with: frozen norms, other classes, the configuration of the run and the meaning of the weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import jaxdet
from jaxdet.config import override
from jaxdet.data import CocoFiles
from jaxdet.heads import AnchorGenerator
from jaxdet.nn import FrozenBatchNorm
from jaxdet.runs import TrainConfig
from jaxdet.runs.start import fresh, start_from
from small_detector import as_headhunter, tiny_config

NAMES = ("__background__", "a", "b")


def _config(**fields):
    return TrainConfig(**{"model": tiny_config(), "train": CocoFiles("a", "b"), "steps": 1, **fields})


def test_a_fresh_model_has_the_data_sets_classes_and_frozen_norms_where_asked():
    model = fresh(_config(freeze_norms=True, dtype="bfloat16"), NAMES)
    assert model.config.names == NAMES and model.box_predictor.cls_score.kernel[...].shape[-1] == 3
    assert isinstance(model.backbone.stem.norm, FrozenBatchNorm)
    assert model.numerics.dtype == "bfloat16" and model.box_predictor.cls_score.kernel[...].dtype == np.float32


def test_a_trained_body_keeps_its_statistics_when_its_norms_are_frozen():
    stored = fresh(_config(), NAMES)
    stored.backbone.stem.norm.mean[...] = stored.backbone.stem.norm.mean[...] + 0.25
    config = replace(stored.config, num_classes=5, names=())
    model = start_from(config, stored, freeze_norms=True)
    assert isinstance(model.backbone.stem.norm, FrozenBatchNorm)
    for name in ("mean", "var", "scale", "bias"):
        ours, theirs = (getattr(one.backbone.stem.norm, name)[...] for one in (model, stored))
        np.testing.assert_array_equal(ours, theirs)
    assert model.box_predictor.cls_score.kernel[...].shape[-1] == 5


def test_a_classifier_starts_from_one_with_other_classes():
    stored = jaxdet.create_model("mobilenet_v1", num_classes=4)
    model = start_from(replace(stored.config, num_classes=2, names=("x", "y")), stored)
    assert model.config.names == ("x", "y") and model.fc.kernel[...].shape[-1] == 2
    kernels = [one.stage1[0].pointwise.conv.kernel[...] for one in (model, stored)]
    np.testing.assert_array_equal(*kernels)
    with pytest.raises(ValueError, match="has a ResNet backbone, but the run trains a MobileNetV1"):
        start_from(replace(stored.config, num_classes=2), jaxdet.create_model("resnet50", num_classes=2))


def test_two_bodies_are_one_too_many():
    with pytest.raises(ValueError, match="this model has a backbone"):
        fresh(_config(backbone=lambda **rest: None), NAMES)


def test_the_stored_structure_stays_and_what_differs_is_told(caplog):
    anchors = AnchorGenerator((16, 32, 48), (1.0,))
    own = as_headhunter(tiny_config())
    options = {"upscale_rpn": True, "context": "ssh", "fpn_pool": False, "rpn_anchor_generator": anchors}
    stored = fresh(_config(model=override(own, options)), NAMES)
    model = start_from(replace(own, num_classes=3, names=NAMES), stored, where="before")
    assert model.config.upscale_rpn and model.config.context.kind == "ssh"
    np.testing.assert_array_equal(*(one.rpn_upscale.kernel[...] for one in (model, stored)))
    for line in (
        "before: context: none -> ssh, as in the weights", "before: upscale_rpn: False -> True, as in the weights",
        "before: fpn_pool: True -> False, as in the weights",
        "before: anchors: 16, 32, 48, 64 -> 16, 32, 48, as in the weights", "predictor: kept",
    ):  # fmt: skip
        assert line in caplog.text

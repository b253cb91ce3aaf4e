"""A classifier's weights fill a detector's backbone strictly, and dropped tensors are named."""

from __future__ import annotations

import numpy as np
import pytest
from flax import nnx

import jaxdet
from jaxdet.models import abstract, model_config
from jaxdet.nn import NormConfig
from jaxdet.saving.model import arrays, fill, flatten
from jaxdet_convert import ConversionError, load_backbone, load_torch, to_torch
from parity.twins.mobilenet_v1 import MobileNetV1

torch = pytest.importorskip("torch")

SMALL = {"num_classes": 3, "fpn_out_channels": 16, "box_representation_size": 16}


@pytest.fixture(scope="module")
def classifier():
    return MobileNetV1(num_classes=6)


@pytest.fixture(scope="module")
def detector():
    return jaxdet.create_model("fasterrcnn_mobilenet_v1_fpn", **SMALL)


def body(model):
    return {path: array for path, array in arrays(model).items() if path.startswith("backbone.")}


def assert_filled(model, state, *, counters=True):
    """The detector's backbone under PyTorch's names is the classifier."""
    tensors = {
        name.removeprefix("backbone.body."): tensor
        for name, tensor in to_torch(model).items()
        if name.startswith("backbone.body.")
    }
    wanted = {name for name in state if name[:3] != "fc." and (counters or not name.endswith("num_batches_tracked"))}
    assert set(tensors) == wanted
    assert all(tensors[name].tobytes() == state[name].numpy().tobytes() for name in wanted)


def test_from_a_file_and_from_a_jaxdet_folder(classifier, detector, tmp_path):
    state = classifier.state_dict()
    torch.save({"state_dict": state, "optimizer": {}}, tmp_path / "classifier.pth")
    before = body(detector)
    filled, dropped = load_backbone(detector, tmp_path / "classifier.pth")
    assert dropped == ("fc.bias", "fc.weight")
    assert_filled(filled, state)
    assert all(np.array_equal(array, before[path]) for path, array in body(detector).items())
    ours, theirs = arrays(filled), arrays(detector)
    assert all(np.array_equal(ours[path], theirs[path]) for path in ours.keys() - before.keys())

    jaxdet.save(load_torch(state, norm_eps=1e-3), tmp_path / "classifier")
    filled, dropped = load_backbone(detector, tmp_path / "classifier")
    assert dropped == ("fc.bias", "fc.weight")
    assert_filled(filled, state)
    assert filled.config.backbone.norm.eps == filled.backbone.stem.norm.eps == 1e-3
    assert filled.config.backbone.num_classes is None and filled.backbone.fc is None


def test_the_norms_stay_of_the_detectors_kind(classifier, detector):
    state = classifier.state_dict()
    frozen = jaxdet.create_model("fasterrcnn_mobilenet_v1_fpn", backbone_norm=NormConfig("frozen"), **SMALL)
    filled, dropped = load_backbone(frozen, state)
    assert dropped == ("fc.bias", "fc.weight")
    assert_filled(filled, state, counters=False)
    uncounted = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    filled, _ = load_backbone(detector, uncounted)
    assert_filled(filled, state)  # the counters are 0 in both


def test_without_a_classifier_nothing_is_dropped(classifier, detector):
    state = {name: tensor for name, tensor in classifier.state_dict().items() if name[:3] != "fc."}
    assert load_backbone(detector, state)[1] == ()


def test_what_belongs_to_darknets_weights_follows_them(darknet):
    detector = abstract(model_config("fasterrcnn_darknet53_fpn", **SMALL))
    structs = flatten(nnx.state(detector)).items()
    detector = fill(detector, {path: np.zeros(want.shape, want.dtype) for path, want in structs})
    assert detector.config.backbone.negative_slope == 0.1
    timm = to_torch(load_torch(darknet.state_dict()), "timm")
    filled, dropped = load_backbone(detector, timm)
    assert dropped == ("head.fc.bias", "head.fc.weight")
    assert filled.config.backbone.negative_slope == filled.backbone.stem.act.negative_slope == 0.01
    assert filled.config.transform.image_mean == filled.config.backbone.transform.image_mean == (0.485, 0.456, 0.406)


def test_what_does_not_fit_is_said(classifier, detector, make_detector, tmp_path):
    state = classifier.state_dict()
    with pytest.raises(
        ValueError, match=r"MobileNetV1 \(width=0.5, .*the detector's backbone is MobileNetV1 \(width=0.25"
    ):
        load_backbone(detector, MobileNetV1(0.5).state_dict())
    with pytest.raises(ValueError, match="of a whole detector"):
        load_backbone(detector, make_detector().state_dict())
    with pytest.raises(ConversionError, match=r"unmapped: extra \(1,\)"):
        load_backbone(detector, state | {"extra": torch.zeros(1)})
    with pytest.raises(ConversionError, match=r"unfilled: stage2\.0\.depthwise\.conv\.kernel"):
        load_backbone(detector, {name: value for name, value in state.items() if name != "stage2.0.0.weight"})
    with pytest.raises(ValueError, match="not a jaxdet model"):
        load_backbone(detector, tmp_path)
    with pytest.raises(ValueError, match="takes a detector with one of jaxdet's backbones"):
        load_backbone(load_torch(state), state)


def test_create_model_takes_backbone_weights(tmp_path, caplog):
    import jaxdet
    from jaxdet import create_model

    classifier = create_model("mobilenet_v1", num_classes=5)
    jaxdet.save(classifier, tmp_path / "classifier")
    with caplog.at_level("INFO", logger="jaxdet"):
        model = create_model(
            "fasterrcnn_mobilenet_v1_fpn", num_classes=3, fpn_out_channels=8, box_representation_size=8,
            backbone_weights=tmp_path / "classifier",
        )  # fmt: skip
    assert (model.backbone.stem.conv.kernel[...] == classifier.stem.conv.kernel[...]).all()
    assert "fc" in caplog.text
    with pytest.raises(ValueError, match="has none"):
        create_model("resnet50", backbone_weights=tmp_path / "classifier")

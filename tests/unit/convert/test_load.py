"""Weights become models and go back bit for bit; what does not fit is named, and nothing is made up."""

from __future__ import annotations

import hashlib
import struct
from itertools import pairwise

import flax.nnx as nnx
import numpy as np
import pytest

import jaxdet
from jaxdet.backbones.base import IMAGENET_MEAN
from jaxdet.data.formats.coco_names import COCO_NAMES
from jaxdet.heads import AnchorGenerator
from jaxdet.models import abstract, model_config
from jaxdet.nn import NormConfig
from jaxdet.saving.model import arrays, fill, flatten
from jaxdet_convert import ConversionError, RecognitionError, WeightsError, convert_weights, load_torch, to_torch
from jaxdet_convert.official import OFFICIAL, OfficialWeights
from parity.twins.darknet53 import TimmDarknet53
from parity.twins.mobilenet_v1 import MobileNetV1

torch = pytest.importorskip("torch")


def assert_same(state, tensors):
    assert set(tensors) == set(state)
    for name, tensor in state.items():
        wanted = tensor.numpy()
        assert (tensors[name].dtype, tensors[name].shape) == (wanted.dtype, wanted.shape), name
        assert tensors[name].tobytes() == wanted.tobytes(), name


def loads_strictly(module, tensors):
    module.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()}, strict=True)


def without_counters(state):
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


def old_names(state):
    """As torchvision spelt them before 0.13."""
    renamed = {}
    for name, tensor in state.items():
        parts = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.").split(".")
        if name.startswith("backbone.fpn."):
            del parts[4]
        renamed[".".join(parts)] = tensor
    return renamed


def equal(model, other):
    ours, theirs = arrays(model), arrays(other)
    assert ours.keys() == theirs.keys()
    return all(np.array_equal(ours[path], theirs[path]) for path in ours)


@pytest.mark.parametrize("builder", ["fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2"])
def test_torchvisions_detectors_there_and_back(torchvision, builder, tmp_path):
    module = getattr(torchvision.models.detection, builder)(weights=None, weights_backbone=None)
    state = module.state_dict()
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            tensor += 12
    model = load_torch(state)
    assert model.config.names == COCO_NAMES
    jaxdet.save(model, tmp_path / "model")
    opened = jaxdet.load(tmp_path / "model")
    assert opened.config == model.config and opened.origin == ("torchvision", "new")
    tensors = to_torch(opened)
    assert_same(state, tensors)
    loads_strictly(module, tensors)


def test_coco_names_are_torchvisions(torchvision):
    weights = torchvision.models.detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1
    assert list(COCO_NAMES) == weights.meta["categories"]


def test_classifiers_there_and_back(torchvision):
    module = torchvision.models.resnet50(num_classes=6)
    assert_same(module.state_dict(), to_torch(load_torch(module.state_dict())))
    module = MobileNetV1(0.35, num_classes=6)
    assert_same(module.state_dict(), to_torch(load_torch(module.state_dict())))


def test_a_frozen_twin(make_detector, detector, torchvision):
    """The same numbers without counters: constants, which torchvision's frozen norms take back."""
    state = without_counters(detector.state_dict())
    model = load_torch(state)
    assert model.config.backbone.norm == NormConfig("frozen")
    tensors = to_torch(model)
    assert_same(state, tensors)
    loads_strictly(make_detector(norm=torchvision.ops.FrozenBatchNorm2d), tensors)
    x = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype(np.float32)
    assert np.array_equal(model.backbone.conv1(x), load_torch(detector.state_dict()).backbone.conv1(x))


def test_spellings(detector, tmp_path):
    state = detector.state_dict()
    model = load_torch(old_names(state))
    jaxdet.save(model, tmp_path / "model")
    model = jaxdet.load(tmp_path / "model")
    assert model.origin == ("torchvision", "old")
    assert_same(old_names(state), to_torch(model))
    assert_same(state, to_torch(model, "new"))
    assert_same(old_names(state), to_torch(load_torch(state), "old"))
    with pytest.raises(ValueError, match="no spelling 'timm'; it has: new, old"):
        to_torch(model, "timm")


def test_a_model_born_here_is_written_in_todays_spelling(make_detector):
    config = model_config(
        "fasterrcnn_resnet50_fpn", num_classes=5, backbone_blocks=(1, 1, 1, 1), backbone_norm=NormConfig(),
        fpn_out_channels=32, box_representation_size=64,
    )  # fmt: skip
    model = abstract(config)
    model = fill(model, {path: np.zeros(want.shape, want.dtype) for path, want in flatten(nnx.state(model)).items()})
    loads_strictly(make_detector(), to_torch(model))
    with pytest.raises(ValueError, match=r"no spelling 'old'; it has: new$"):
        to_torch(abstract(model_config("fasterrcnn_resnet50_fpn_v2")), "old")


def test_eps(detector, tmp_path, monkeypatch):
    """0.0 for the one official file, whatever its name; 1e-5 otherwise; settable; stored."""
    state = without_counters(detector.state_dict())
    official, other = tmp_path / "renamed.pth", tmp_path / "other.pth"
    torch.save(state, official)
    torch.save(state | {"rpn.head.cls_logits.bias": state["rpn.head.cls_logits.bias"] + 1}, other)
    prefix = hashlib.sha256(official.read_bytes()).hexdigest()[:8]
    monkeypatch.setitem(OFFICIAL, "fasterrcnn_resnet50_fpn", OfficialWeights(f"x-{prefix}.pth", norm_eps=0.0))
    assert convert_weights(official).norm_eps == 0.0
    assert convert_weights(other).norm_eps == 1e-5
    assert convert_weights(state).norm_eps == 1e-5
    model = load_torch(official, norm_eps=1e-3)
    jaxdet.save(model, tmp_path / "model")
    opened = jaxdet.load(tmp_path / "model")
    assert opened.config.backbone.norm == NormConfig("frozen", eps=1e-3)
    assert opened.backbone.conv1.norm.eps == 1e-3


def test_an_official_classifier_brings_its_resizing_and_no_eps(tmp_path, monkeypatch):
    path = tmp_path / "renamed.pth"
    torch.save(MobileNetV1(num_classes=6).state_dict(), path)
    prefix = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    # An eps is of a detector's frozen norms.
    monkeypatch.setitem(OFFICIAL, "resnet50", OfficialWeights(f"x-{prefix}.pth", norm_eps=0.0, resize=232))
    result = convert_weights(path)
    assert (result.model.config.transform.resize, result.norm_eps) == (232, 1e-5)
    assert result.official == OFFICIAL["resnet50"]
    assert "transform" not in convert_weights(torch.load(path)).told


def test_an_official_detector_has_no_classifiers_transform(detector, tmp_path, monkeypatch):
    path = tmp_path / "renamed.pth"
    torch.save(detector.state_dict(), path)
    prefix = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    monkeypatch.setitem(OFFICIAL, "fasterrcnn_resnet50_fpn", OfficialWeights(f"x-{prefix}.pth"))
    assert "transform" not in convert_weights(path).told


def test_the_official_hash_is_torchvisions():
    assert {weights.prefix: weights.norm_eps for weights in OFFICIAL.values()}["258fb6c6"] == 0.0


def test_every_problem_is_listed(detector):
    state = detector.state_dict()
    del state["rpn.head.bbox_pred.bias"], state["roi_heads.box_head.fc7.weight"]
    state["roi_heads.mask_head.weight"] = torch.zeros(2)
    state["backbone.body.layer3.0.conv2.weight"] = torch.zeros(256, 256, 5, 5)
    with pytest.raises(ConversionError) as caught:
        load_torch(state)
    problems = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 4
    for part in (
        "rpn_head.bbox_pred.bias",
        "box_head.fc7.kernel",
        "roi_heads.mask_head.weight (2,)",
        "(5, 5, 256, 256)",
    ):
        assert part in problems


def test_weights_of_no_known_kind_are_listed_against_the_model_that_is_named():
    with pytest.raises(RecognitionError, match="do not belong to a known model"):
        load_torch({"weight": np.zeros(3, np.float32)})
    with pytest.raises(ConversionError, match=r"unmapped: weight \(3,\)"):
        load_torch({"weight": np.zeros(3, np.float32)}, "resnet50")


def test_class_counts_and_names(detector):
    state = detector.state_dict()
    assert load_torch(state).config.names == ()
    assert load_torch(state, names=["__background__", *"abcd"]).config.names[1] == "a"
    with pytest.raises(ValueError, match="3 class names for num_classes=5"):
        load_torch(state, names=["__background__", "a", "b"])
    with pytest.raises(ValueError, match=r"are for 5 classes and num_classes=7 was asked for.*fresh_predictor"):
        load_torch(state, num_classes=7)


def test_a_fresh_predictor(detector):
    state = detector.state_dict()
    result = convert_weights(state, num_classes=9, fresh_predictor=True, rngs=nnx.Rngs(1))
    assert result.model.config.num_classes == 9
    assert result.dropped == tuple(sorted(name for name in state if "box_predictor" in name))
    assert set(result.fresh) == {
        f"box_predictor.{part}.{kind}" for part in ("cls_score", "bbox_pred") for kind in ("kernel", "bias")
    }
    ours, kept = arrays(result.model), arrays(load_torch(state))
    for path, array in ours.items():
        if path.startswith("box_predictor."):
            assert float(np.std(array)) > 0
        else:
            assert np.array_equal(array, kept[path])
    other = load_torch(state, num_classes=9, fresh_predictor=True, rngs=nnx.Rngs(2))
    assert not equal(result.model, other)
    assert equal(result.model, load_torch(state, num_classes=9, fresh_predictor=True, rngs=nnx.Rngs(1)))


def test_a_fresh_classifier():
    state = MobileNetV1(num_classes=6).state_dict()
    result = convert_weights(state, num_classes=4, fresh_predictor=True)
    assert result.dropped == ("fc.bias", "fc.weight")
    assert result.model.fc.kernel.shape == (256, 4) and float(np.std(result.model.fc.kernel[...])) > 0
    headless = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    assert load_torch(headless).fc is None
    assert load_torch(headless, num_classes=4, fresh_predictor=True).fc.kernel.shape == (256, 4)
    with pytest.raises(ValueError, match="no classifier: give the number of classes"):
        load_torch(headless, fresh_predictor=True)


def test_anchors_are_checked_by_their_number(make_detector, torchvision):
    sizes, ratios = ((8, 16),) * 5, ((0.5, 1.0),) * 5
    generator = torchvision.models.detection.anchor_utils.AnchorGenerator(sizes, ratios)
    state = make_detector(rpn_anchor_generator=generator).state_dict()
    with pytest.raises(ValueError, match=r"4 anchors per location, but the anchor generator has \[3, 3, 3, 3, 3\]"):
        load_torch(state)
    model = load_torch(state, rpn_anchor_generator=AnchorGenerator(sizes, ratios))
    assert model.config.rpn.anchor_generator.sizes == sizes


def test_options_go_before_what_the_weights_tell(detector):
    state = detector.state_dict()
    norm = NormConfig("batch", eps=0.5)
    model = load_torch(
        state, min_size=320, box_score_thresh=0.3, backbone_norm=norm, dtype="bfloat16", precision="default"
    )
    assert (model.config.transform.min_size, model.config.box.score_thresh) == (320, 0.3)
    assert model.config.backbone.norm == norm and (model.numerics.dtype, model.numerics.precision) == (
        "bfloat16",
        "default",
    )
    with pytest.raises(ValueError, match="did you mean 'min_size'"):
        load_torch(state, min_sise=320)


def test_containers_prefixes_and_what_lies_beside(tmp_path):
    state = MobileNetV1(num_classes=6).state_dict()
    doubled = {name: tensor * 2 if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save({"model": wrapped, "model_ema": doubled, "epoch": 3}, tmp_path / "run.pth")
    with pytest.raises(WeightsError, match=r"run\.pth: it contains several sets of weights: model, model_ema"):
        load_torch(tmp_path / "run.pth")
    result = convert_weights(tmp_path / "run.pth", container="model")
    assert (result.source, result.container, result.prefix) == ("torch-zip", "model", "module.")
    assert result.beside == ("model_ema", "epoch")
    assert equal(result.model, load_torch(state))
    assert equal(load_torch(tmp_path / "run.pth", container="model_ema"), load_torch(doubled))


def test_the_model_does_not_change_with_the_arrays_it_came_from():
    state = {name: tensor.numpy() for name, tensor in MobileNetV1(num_classes=6).state_dict().items()}
    model = load_torch(state)
    before = to_torch(model)
    for array in state.values():
        array *= 0
    assert all(np.array_equal(before[name], array) for name, array in to_torch(model).items())


def as_darknet(module):
    """A listing's convolutions in the order in which they compute, as Darknet writes them."""
    layers = list(module.modules())
    numbers = []
    for conv, norm in pairwise(layers):
        if isinstance(conv, torch.nn.Conv2d):
            numbers += [norm.bias, norm.weight, norm.running_mean, norm.running_var, conv.weight]
    backbone = np.concatenate([tensor.detach().numpy().ravel() for tensor in numbers])
    fc = np.concatenate([tensor.detach().numpy().ravel() for tensor in (module.fc.bias, module.fc.weight)])
    return backbone, fc


def test_darknets_names_give_the_same_model(darknet, tmp_path):
    state = darknet.state_dict()
    listing = load_torch(state)
    assert_same(state, to_torch(listing))
    assert listing.config.negative_slope == 0.01 and listing.config.transform.image_mean == (0, 0, 0)

    timm = to_torch(listing, "timm")
    loads_strictly(TimmDarknet53(18), timm)
    model = load_torch(timm)
    assert (model.origin, model.config.transform.image_mean) == (("timm",), IMAGENET_MEAN)
    assert equal(model, listing)
    loads_strictly(darknet, to_torch(model, "listing"))

    backbone, fc = as_darknet(darknet)
    file = tmp_path / "darknet53.weights"
    file.write_bytes(struct.pack("<3iQ", 0, 2, 0, 32) + backbone.tobytes() + fc.tobytes())
    result = convert_weights(file)
    model = result.model
    assert (result.fresh, result.dropped) == ((), ())  # the counters that Darknet has not are no news
    assert model.config.num_classes == 18 and model.config.negative_slope == 0.1
    assert model.config.norm == NormConfig("batch", momentum=0.99)
    ours, theirs = arrays(model), arrays(listing)
    for path, array in ours.items():
        assert np.array_equal(array, theirs[path] if not path.endswith(".count") else 0), path
    assert {"stem.conv.weight", "fc.bias"} <= to_torch(model).keys()
    loads_strictly(darknet, to_torch(model, "listing"))

    (tmp_path / "darknet53.conv.74").write_bytes(struct.pack("<3ii", 0, 1, 0, 32) + backbone.tobytes())
    headless = load_torch(tmp_path / "darknet53.conv.74", negative_slope=0.01)
    assert headless.config.num_classes is None and headless.config.negative_slope == 0.01
    file.write_bytes(struct.pack("<3iQ", 0, 2, 0, 32) + backbone[:-3].tobytes())
    with pytest.raises(ValueError, match=r"darknet53\.weights: .* numbers are not Darknet-53's"):
        load_torch(file)

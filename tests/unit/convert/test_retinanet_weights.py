"""torchvision's RetinaNets: recognised, there and back bit for bit, read off live modules, whole or the backbone."""

from __future__ import annotations

import hashlib
from functools import partial

import numpy as np
import pytest

from jaxdet.heads import AnchorGenerator
from jaxdet.models import model_config
from jaxdet.nn import NormConfig
from jaxdet.nn.parameters import arrays
from jaxdet_convert import (
    ConversionError,
    RecognitionError,
    UnsupportedModuleError,
    convert_weights,
    from_torch,
    load_backbone,
    load_torch,
    official_config,
    to_torch,
)
from jaxdet_convert.official import OFFICIAL, OfficialWeights
from jaxdet_convert.recognise import recognise
from parity.twins.mobilenet_v1 import MobileNetV1
from torchvision_cpu import torchvision_or_skip

torchvision = torchvision_or_skip()
import torch  # noqa: E402
from torchvision.models.detection import backbone_utils, retinanet  # noqa: E402
from torchvision.models.detection.anchor_utils import AnchorGenerator as TorchAnchors  # noqa: E402
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7  # noqa: E402

GROUPS = partial(torch.nn.GroupNorm, 16)
SMALL = {"backbone_blocks": (1, 1, 1, 1), "fpn_out_channels": 32, "num_classes": 5}


def small(version=1, *, norm=torch.nn.BatchNorm2d, extra=None, head=None, anchors=None, body=None, **options):
    """torchvision's RetinaNet on a ResNet of four blocks with narrow heads: quick, and as it is otherwise."""
    resnet = torchvision.models.resnet
    body = resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1], norm_layer=norm) if body is None else body
    extra = LastLevelP6P7(32 if version == 1 else 2048, 32) if extra is None else extra
    layers = {f"layer{i}": str(i - 2) for i in (2, 3, 4)}
    backbone = backbone_utils.BackboneWithFPN(body, layers, [512, 1024, 2048], 32, extra)
    anchors = retinanet._default_anchorgen() if anchors is None else anchors
    if head is None:
        count = anchors.num_anchors_per_location()[0]
        head = retinanet.RetinaNetHead(32, count, 5, norm_layer=GROUPS if version == 2 else None)
        head.regression_head._loss_type = "l1" if version == 1 else "giou"
    return retinanet.RetinaNet(backbone, 5, anchor_generator=anchors, head=head, **options).eval()


@pytest.fixture(scope="module")
def modules():
    """Both versions; not to be changed."""
    torch.manual_seed(0)
    return {version: small(version) for version in (1, 2)}


def meta(make, **options):
    """Names and shapes of a module that is never filled."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in make(**options).state_dict().items()}


def assert_same(tensors, state):
    assert set(tensors) == set(state)
    for name, tensor in state.items():
        assert tensors[name].dtype == tensor.numpy().dtype and tensors[name].tobytes() == tensor.numpy().tobytes(), name


def as_before(state, *, head=True, fpn=True):
    """Under the names that torchvision had before 0.13."""
    renamed = {}
    for name, tensor in state.items():
        parts = name.split(".")
        if fpn and "_blocks" in name and "extra" not in name:
            del parts[4]
        if head and ".conv." in name and parts[0] == "head":
            parts[3:5] = [str(2 * int(parts[3]))]
        renamed[".".join(parts)] = tensor
    return renamed


@pytest.mark.parametrize("name", ["retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2"])
def test_full_sizes(name):
    builder = getattr(retinanet, name)
    found = recognise(meta(builder, weights=None, weights_backbone=None, num_classes=7))
    assert (found.name, found.num_anchors, found.origin) == (name, 9, ("torchvision", "new"))
    assert (found.bare, found.also, found.is_detector) == (False, None, True)
    wanted = model_config(name, num_classes=7, backbone_norm=NormConfig("batch"))
    assert model_config(found.name, **found.options) == wanted
    with pytest.raises(RecognitionError, match=rf"are of '{name}' \(7 classes\), and not of 'fasterrcnn_resnet50_fpn'"):
        recognise(meta(builder, weights=None, weights_backbone=None, num_classes=7), "fasterrcnn_resnet50_fpn")


@pytest.mark.parametrize("version", [1, 2])
def test_there_and_back(modules, version):
    module = modules[version]
    model = load_torch({f"module.{name}": tensor for name, tensor in module.state_dict().items()})
    name = "retinanet_resnet50_fpn" + ("" if version == 1 else "_v2")
    assert model.config == model_config(name, **SMALL, backbone_norm=NormConfig("batch"))
    tensors = to_torch(model)
    assert_same(tensors, module.state_dict())
    module.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()}, strict=True)


@pytest.mark.parametrize("old", [("head", "fpn"), ("head",), ("fpn",)])
def test_spellings(modules, old):
    state = modules[1].state_dict()
    former = as_before(state, **{part: part in old for part in ("head", "fpn")})
    assert former.keys() != state.keys()
    model = load_torch(former)
    assert model.origin == ("torchvision", "old" if len(old) == 2 else f"old-{old[0]}")
    assert_same(to_torch(model), former)
    assert_same(to_torch(model, "new"), state)
    twin = small()
    twin.load_state_dict(former)  # torchvision reads the old names, too
    assert_same({name: tensor.numpy() for name, tensor in twin.state_dict().items()}, state)
    with pytest.raises(ValueError, match=r"no spelling 'old-rpn'; it has: new, old, old-head, old-fpn$"):
        to_torch(model, "old-rpn")


def test_the_second_version_has_one_spelling(modules):
    model = from_torch(modules[2])
    with pytest.raises(ValueError, match=r"no spelling 'old'; it has: new$"):
        to_torch(model, "old")


def test_frozen_norms_and_the_official_file(tmp_path, monkeypatch):
    """eps 0 for the one file, whatever its name."""
    module = small(norm=torchvision.ops.FrozenBatchNorm2d)
    torch.save(module.state_dict(), tmp_path / "renamed.pth")
    result = convert_weights(tmp_path / "renamed.pth")
    assert result.model.config.backbone.norm == NormConfig("frozen") and "norm_eps 1e-05" in result.assumed
    prefix = hashlib.sha256((tmp_path / "renamed.pth").read_bytes()).hexdigest()[:8]
    monkeypatch.setitem(OFFICIAL, "retinanet_resnet50_fpn", OfficialWeights(f"x-{prefix}.pth", norm_eps=0.0))
    result = convert_weights(tmp_path / "renamed.pth")
    assert result.model.config.backbone.norm == NormConfig("frozen", eps=0.0) and result.assumed == ""
    assert result.model.backbone.conv1.norm.eps == 0.0


def test_the_official_rows():
    first, second = (official_config(f"retinanet_resnet50_fpn{version}") for version in ("", "_v2"))
    assert first.backbone.norm == NormConfig("frozen", eps=0.0) and second.backbone.norm == NormConfig("batch")
    assert second.head_norm == NormConfig("group") and len(first.names) == len(second.names) == 91
    known = {weights.prefix: weights.norm_eps for weights in OFFICIAL.values()}
    assert (known["eeacb38b"], known["5905b1c5"]) == (0.0, 1e-5)


def test_sizes_of_its_parts():
    anchors = TorchAnchors(((8, 16),) * 4, ((0.5, 1.0),) * 4)
    module = small(extra=LastLevelMaxPool(), anchors=anchors)
    with pytest.raises(ValueError, match=r"anchors per location.*\(anchor_generator=AnchorGenerator"):
        load_torch(module.state_dict())
    sizes, ratios = ((8, 16),) * 4, ((0.5, 1.0),) * 4
    model = load_torch(module.state_dict(), anchor_generator=AnchorGenerator(sizes, ratios), fpn_pool=True)
    assert (model.config.fpn.p6p7, model.config.fpn.pool, model.config.num_classes) == (None, True, 5)
    assert_same(to_torch(model), module.state_dict())
    assert from_torch(module).config.fpn == model.config.fpn


def test_every_option_of_a_live_module():
    anchors = TorchAnchors(((8, 16),) * 5, ((0.5, 1.0),) * 5)
    thresholds = {
        "score_thresh": 0.21, "nms_thresh": 0.41, "detections_per_img": 16, "topk_candidates": 17,
        "fg_iou_thresh": 0.63, "bg_iou_thresh": 0.33,
    }  # fmt: skip
    module = small(
        2, min_size=301, max_size=402, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6], anchors=anchors,
        **thresholds,
    )  # fmt: skip
    config = from_torch(module).config
    assert (config.transform.min_size, config.transform.max_size) == (301, 402)
    assert (config.transform.image_mean, config.transform.image_std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert config.anchor_generator.sizes == ((8, 16),) * 5
    assert config.anchor_generator.aspect_ratios == ((0.5, 1.0),) * 5
    assert {option: getattr(config, option) for option in thresholds} == thresholds
    assert (config.box_loss, config.fpn.p6p7, config.head_norm) == ("giou", "c5", NormConfig("group", groups=16))
    assert from_torch(module, score_thresh=0.9).config.score_thresh == 0.9
    for layer in module.head.modules():
        if isinstance(layer, torch.nn.GroupNorm):
            layer.eps = 1e-3
    assert from_torch(module).config.head_norm.eps == 1e-3
    next(layer for layer in module.head.modules() if isinstance(layer, torch.nn.GroupNorm)).num_groups = 8
    with pytest.raises(UnsupportedModuleError, match=r"norms under head\. differ.*8 groups.*16 groups"):
        from_torch(module)


@pytest.mark.parametrize("norm", [torch.nn.BatchNorm2d, torchvision.ops.FrozenBatchNorm2d])
def test_other_norms_in_the_heads(norm):
    module = small(head=retinanet.RetinaNetHead(32, 9, 5, norm_layer=norm))
    model = from_torch(module)
    kind = "batch" if norm is torch.nn.BatchNorm2d else "frozen"
    assert model.config.head_norm.kind == kind and model.config.fpn.p6p7 == "p5" and model.config.box_loss == "l1"
    assert_same(to_torch(model), module.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: setattr(m.transform, "size_divisible", 1), "size_divisible is 1, but jaxdet only supports 32"),
        (lambda m: setattr(m.box_coder, "weights", (10.0, 10.0, 5.0, 5.0)), r"weights is \(10.0"),
        (lambda m: setattr(m.head.regression_head.box_coder, "weights", (2.0, 2.0, 1.0, 1.0)), r"weights is \(2.0"),
        (lambda m: setattr(m.proposal_matcher, "allow_low_quality_matches", False), "allow_low_quality_matches"),
        (lambda m: setattr(m.head.regression_head, "_loss_type", "ciou"), "the box loss is 'ciou'.* l1, giou"),
        (lambda m: setattr(m.backbone.fpn.extra_blocks, "use_P5", False), "use_P5 is False"),
        (lambda m: setattr(m.head.classification_head.conv[2][0], "dilation", (2, 2)), "conv.2.0 is dilated"),
        (lambda m: m.head.regression_head.conv[1].__setitem__(1, torch.nn.SiLU()), "conv.1.1 is a SiLU"),
        (lambda m: delattr(m.anchor_generator, "sizes"), "AnchorGenerator has no sizes"),
        (lambda m: setattr(m.backbone.body.layer2[0].conv1, "stride", (2, 2)), r"layer2\.0\.conv1 has the stride"),
    ],
)
def test_what_would_compute_something_else_is_refused(change, message):
    module = small()
    change(module)
    with pytest.raises(UnsupportedModuleError, match=message):
        from_torch(module)


def test_a_fresh_predictor(modules):
    state = modules[2].state_dict()
    result = convert_weights(state, num_classes=9, fresh_predictor=True)
    assert result.dropped == tuple(sorted(name for name in state if "cls_logits" in name))
    output = result.model.head.classification.output
    assert output.kernel.shape == (3, 3, 32, 81)
    np.testing.assert_allclose(output.bias[...], -np.log(99), rtol=1e-6)  # a score of 0.01 for every class
    assert 0.005 < float(np.std(output.kernel[...])) < 0.015
    with pytest.raises(ValueError, match=r"are for 5 classes and num_classes=9 was asked for"):
        load_torch(state, num_classes=9)


@pytest.mark.parametrize("version", [1, 2])
def test_the_backbone_alone(modules, version):
    """Its heads are new; the rest is bit for bit. It fills another detector's, too."""
    module = modules[version]
    state = {name: tensor for name, tensor in module.state_dict().items() if name.startswith("backbone.")}
    result = convert_weights(module.backbone.state_dict(), num_classes=5)
    assert result.bare and result.name == "retinanet_resnet50_fpn" + ("" if version == 1 else "_v2")
    assert {path.split(".")[0] for path in result.fresh} == {"head"}
    tensors = to_torch(result.model)
    assert_same({name: tensors[name] for name in tensors if name.startswith("backbone.")}, state)
    with pytest.raises(UnsupportedModuleError, match="without its heads"):
        from_torch(module.backbone)
    whole = load_torch(module.state_dict())
    doubled = {name: tensor * 2 for name, tensor in module.backbone.state_dict().items()}
    filled, dropped = load_backbone(whole, doubled)
    before, after = arrays(whole), arrays(filled)
    for path in after:
        factor = 2 if path.startswith(("backbone.", "fpn.")) else 1
        assert np.array_equal(after[path], before[path] * factor), path
    assert dropped == ()


def test_everything_that_does_not_fit_is_listed(modules):
    state = dict(modules[2].state_dict())
    del state["head.classification_head.conv.2.0.weight"], state["backbone.fpn.extra_blocks.p7.bias"]
    state["head.regression_head.conv.4.0.weight"] = torch.zeros(2)
    with pytest.raises(ConversionError) as caught:
        load_torch(state)
    text = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 3
    for part in (
        "unfilled: head.classification.tower.2.conv.kernel",
        "fpn.extra_blocks.p7.conv.bias",
        "not in the model: head.regression_head.conv.4.0.weight (2,) -> head.regression.tower.4.conv.kernel",
    ):
        assert part in text


def test_a_tensor_that_is_missing_leaves_the_kind_plain():
    for name in ("retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2"):
        names = meta(getattr(retinanet, name), weights=None, weights_backbone=None)
        for missing in np.random.default_rng(0).choice(list(names), 30, replace=False):
            assert recognise({key: shape for key, shape in names.items() if key != missing}).name == name, missing


def test_others_with_similar_names():
    """FCOS and SSD name their heads alike, and a RetinaNet may stand on a backbone that has no preset."""
    detection = torchvision.models.detection
    assert recognise(meta(detection.fcos_resnet50_fpn, weights=None, weights_backbone=None)).name == "fcos_resnet50_fpn"
    with pytest.raises(RecognitionError, match=r"not those of a Faster R-CNN|belong to a known model"):
        recognise(meta(detection.ssd300_vgg16, weights=None, weights_backbone=None))
    names = {f"backbone.body.{name}": shape for name, shape in meta(MobileNetV1).items()}
    names |= {"head.classification_head.cls_logits.weight": (9, 32, 3, 3)}
    with pytest.raises(RecognitionError, match="a RetinaNet on a mobilenet_v1; jaxdet has it on ResNets"):
        recognise(names)


def test_what_nobody_told_is_one_line(modules):
    result = convert_weights(modules[2].state_dict(), score_thresh=0.3, min_size=640)
    assert result.assumed.startswith("max_size 1333; anchors 32, 40, 50 / 64, 80, 101 / ")
    for part in ("box_loss giou", "topk_candidates 1000", "head_norm_groups 32", "norm_eps 1e-05"):
        assert part in result.assumed
    assert "score_thresh" not in result.assumed and "min_size" not in result.assumed

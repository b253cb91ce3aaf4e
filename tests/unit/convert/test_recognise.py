"""What weights are of is told from their names and shapes alone."""

from __future__ import annotations

import numpy as np
import pytest

from jaxdet.backbones.base import IMAGENET_MEAN
from jaxdet.models import list_models, model_config
from jaxdet.nn import NormConfig
from jaxdet_convert.recognise import recognise
from jaxdet_convert.sources.base import RecognitionError
from jaxdet_convert.sources.darknet import darknet53_layers
from parity.twins.darknet53 import Darknet53, TimmDarknet53
from parity.twins.mobilenet_v1 import MobileNetV1

torch = pytest.importorskip("torch")


def shapes(make, *args, **options):
    """Of a module that is never filled."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in make(*args, **options).state_dict().items()}


def without_counters(names):
    return {name: shape for name, shape in names.items() if not name.endswith("num_batches_tracked")}


@pytest.mark.parametrize("name", ["resnet50", "resnet101", "resnet152"])
def test_resnets(torchvision, name):
    found = recognise(shapes(getattr(torchvision.models, name), num_classes=11))
    assert (found.name, found.origin, found.is_detector) == (name, ("torchvision",), False)
    assert found.options == {"norm": NormConfig("batch"), "num_classes": 11}
    assert model_config(name, **found.options).blocks == model_config(name).blocks


def test_the_kind_of_norm_follows_the_counters(torchvision):
    names = shapes(torchvision.models.resnet50)
    assert recognise(without_counters(names)).options["norm"].kind == "frozen"
    detector = shapes(torchvision.models.detection.fasterrcnn_resnet50_fpn_v2, weights=None, weights_backbone=None)
    options = recognise(without_counters(detector)).options
    assert {options[f"{part}_norm"].kind for part in ("backbone", "fpn", "box")} == {"frozen"}


def test_a_resnet_without_classifier_and_of_another_depth(torchvision):
    resnet = torchvision.models.resnet
    names = shapes(resnet.ResNet, resnet.Bottleneck, [2, 1, 3, 1])
    found = recognise({name: shape for name, shape in names.items() if not name.startswith("fc.")})
    assert found.options["num_classes"] is None and found.options["blocks"] == (2, 1, 3, 1)


@pytest.mark.parametrize(
    ("builder", "name"),
    [
        ("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn"),
        ("fasterrcnn_resnet50_fpn_v2", "fasterrcnn_resnet50_fpn_v2"),
    ],
)
def test_torchvisions_detectors(torchvision, builder, name):
    make = getattr(torchvision.models.detection, builder)
    found = recognise(shapes(make, weights=None, weights_backbone=None, num_classes=7))
    assert (found.name, found.origin, found.num_anchors) == (name, ("torchvision", "new"), 3)
    norm = NormConfig("batch")
    chosen = model_config(name, **found.options)
    preset = model_config(name, num_classes=7, backbone_norm=norm)
    assert chosen == preset


def test_two_rpn_convolutions_make_it_v2_whatever_the_norms(torchvision):
    names = shapes(torchvision.models.detection.fasterrcnn_resnet50_fpn, weights=None, weights_backbone=None)
    names |= {f"rpn.head.conv.1.0.{part}": names[f"rpn.head.conv.0.0.{part}"] for part in ("weight", "bias")}
    found = recognise(names)
    assert (found.name, found.also) == ("fasterrcnn_resnet50_fpn_v2", None)
    assert (found.options["rpn_conv_depth"], found.options["fpn_norm"]) == (2, None)
    config = model_config(found.name, **found.options)
    assert (config.rpn.conv_depth, config.fpn.norm, config.box.conv_layers) == (2, None, ())


def test_a_box_head_of_convolutions_makes_it_v2(make_detector, torchvision):
    heads = torchvision.models.detection.faster_rcnn
    with torch.device("meta"):
        head = heads.FastRCNNConvFCHead((32, 7, 7), [24, 16], [64], norm_layer=torch.nn.BatchNorm2d)
        found = recognise(shapes(make_detector, box_head=head))
    assert (found.name, found.also) == ("fasterrcnn_resnet50_fpn_v2", None)
    assert (found.options["box_conv_layers"], found.options["box_output_size"]) == ((24, 16), 7)


@pytest.mark.parametrize(("levels", "also"), [(4, "headhunter_resnet50"), (3, None)])
def test_four_plain_levels_may_be_a_headhunters(torchvision, levels, also):
    names = shapes(torchvision.models.detection.fasterrcnn_resnet50_fpn, weights=None, weights_backbone=None)
    gone = tuple(f"backbone.fpn.{kind}_blocks.{index}." for kind in ("inner", "layer") for index in range(levels, 4))
    names = {name: shape for name, shape in names.items() if not name.startswith(gone)}
    assert recognise(names).also == also


def test_old_spellings(torchvision):
    make = torchvision.models.detection.fasterrcnn_resnet50_fpn
    names = shapes(make, weights=None, weights_backbone=None)
    rpn = {name.replace("rpn.head.conv.0.0.", "rpn.head.conv."): shape for name, shape in names.items()}
    old = {}
    for name, shape in rpn.items():
        parts = name.split(".")
        if name.startswith("backbone.fpn."):
            assert parts.pop(4) == "0"
        old[".".join(parts)] = shape
    assert recognise(old).origin == ("torchvision", "old")
    assert recognise(rpn).origin == ("torchvision", "old-rpn")
    assert recognise(old).options == recognise(names).options


def test_sizes_of_a_detectors_parts(make_detector, torchvision):
    anchors = torchvision.models.detection.anchor_utils.AnchorGenerator(((8, 16),) * 5, ((0.5, 1.0),) * 5)
    found = recognise(shapes(make_detector, num_classes=3, width=48, size=80, rpn_anchor_generator=anchors))
    assert found.options["num_classes"] == 3
    assert found.options["fpn_out_channels"] == 48
    assert found.options["box_representation_size"] == 80
    assert found.options["box_output_size"] == 7
    assert found.options["backbone_blocks"] == (1, 1, 1, 1)
    assert found.num_anchors == 4


@pytest.mark.parametrize("width", [0.25, 0.35, 0.5, 1.0])
def test_mobilenet_and_its_width(width):
    found = recognise(shapes(MobileNetV1, width, num_classes=9))
    assert (found.name, found.origin, found.options["num_classes"]) == ("mobilenet_v1", ("retinaface",), 9)
    given = found.options["width"]
    assert [int(n * given) for n in (32, 64, 128, 256, 512, 1024)] == [
        int(n * width) for n in (32, 64, 128, 256, 512, 1024)
    ]


def test_darknets_slope_and_images_follow_its_source():
    listing, timm = recognise(shapes(Darknet53, 18)), recognise(shapes(TimmDarknet53, 1000))
    assert (listing.name, listing.origin, listing.options["num_classes"]) == ("darknet53", ("listing",), 18)
    assert (timm.name, timm.origin, timm.options["num_classes"]) == ("darknet53", ("timm",), 1000)
    assert listing.options["negative_slope"] == timm.options["negative_slope"] == 0.01
    assert listing.options["transform"].image_mean == (0.0, 0.0, 0.0)
    assert timm.options["transform"].image_mean == IMAGENET_MEAN


@pytest.mark.parametrize("classes", [None, 1, 18, 1000])
def test_darknets_own_files_tell_their_classes_by_their_length(classes):
    numbers = 40_620_640 + 1025 * (classes or 0)
    layers = darknet53_layers(numbers)
    assert classes is None or layers[-1].out_channels == classes
    with pytest.raises(RecognitionError, match=r"40,620,640 and 1,025 more per class"):
        darknet53_layers(numbers + 1)
    for too_few in (1025, 40_620_640 - 1025):
        with pytest.raises(RecognitionError):
            darknet53_layers(too_few)


@pytest.mark.parametrize(("body", "name"), [(MobileNetV1, "mobilenet_v1"), (Darknet53, "darknet53")])
def test_detectors_on_other_bodies(body, name):
    levels = {"mobilenet_v1": (64, 128, 256), "darknet53": (128, 256, 512, 1024)}[name]
    inner = {f"backbone.body.{key}": shape for key, shape in shapes(body).items() if not key.startswith("fc.")}
    for index, channels in enumerate(levels):
        inner[f"backbone.fpn.inner_blocks.{index}.0.weight"] = (64, channels, 1, 1)
        inner[f"backbone.fpn.layer_blocks.{index}.0.weight"] = (64, 64, 3, 3)
    inner["rpn.head.conv.0.0.weight"] = (64, 64, 3, 3)
    inner["rpn.head.cls_logits.weight"] = (3, 64, 1, 1)
    inner["roi_heads.box_head.fc6.weight"] = (128, 64 * 49)
    inner["roi_heads.box_predictor.cls_score.weight"] = (4, 128)
    found = recognise(inner)
    assert found.name == f"fasterrcnn_{name}_fpn"
    assert found.origin == (("torchvision", "new", "listing") if name == "darknet53" else ("torchvision", "new"))
    assert found.options["num_classes"] == 4 and found.options["fpn_out_channels"] == 64
    config = model_config(found.name, **found.options)
    assert len(config.fpn.levels) == len(levels)


def test_what_is_of_no_known_model_is_said(torchvision):
    with pytest.raises(RecognitionError, match=r"1 tensors \(features.0 \(3,\)\)\. Known: resnet50"):
        recognise({"features.0": (3,)})
    with pytest.raises(RecognitionError, match=r"basic blocks \(2, 2, 2, 2 per stage"):
        recognise(shapes(torchvision.models.resnet18))
    with pytest.raises(RecognitionError, match="ResNeXt or wide"):
        recognise(shapes(torchvision.models.resnext50_32x4d))
    resnet = shapes(torchvision.models.resnet50)
    with pytest.raises(RecognitionError, match=r"with 3, 4, 0, 3 blocks per stage: a whole stage is missing"):
        recognise({name: shape for name, shape in resnet.items() if not name.startswith("layer3.")})
    mobilenet = shapes(MobileNetV1)
    with pytest.raises(RecognitionError, match=r"a stem of the shape \(8, 3, 5, 5\)"):
        recognise(mobilenet | {"stage1.0.0.weight": (8, 3, 5, 5)})
    with pytest.raises(RecognitionError, match=r"last convolution \(stage3.1.3.weight\) is missing"):
        recognise({name: shape for name, shape in mobilenet.items() if name != "stage3.1.3.weight"})
    detection = torchvision.models.detection
    unknown = shapes(detection.fcos_resnet50_fpn, weights=None, weights_backbone=None)
    unknown = {name.replace("head.", "other."): shape for name, shape in unknown.items()}
    with pytest.raises(
        RecognitionError, match=r"nothing under rpn.head., roi_heads.box_; besides the backbone there are 54"
    ):
        recognise(unknown)
    with pytest.raises(RecognitionError, match="do not belong to a known model"):
        recognise(shapes(detection.fasterrcnn_mobilenet_v3_large_fpn, weights=None, weights_backbone=None))


def test_a_name_has_to_agree(torchvision):
    names = shapes(torchvision.models.resnet50)
    assert recognise(names, "resnet50").name == "resnet50"
    with pytest.raises(RecognitionError, match=r"are of 'resnet50' \(1000 classes\), and not of 'resnet101'"):
        recognise(names, "resnet101")
    with pytest.raises(RecognitionError, match="--backbone-weights"):
        recognise(names, "fasterrcnn_resnet50_fpn")
    with pytest.raises(RecognitionError, match="did you mean 'resnet50'"):
        recognise(names, "resnet5")
    assert recognise({"features.0": (3,)}, "resnet50").name == "resnet50"  # for the strict application to list


def test_a_tensor_that_is_missing_leaves_the_kind_plain(torchvision):
    names = shapes(torchvision.models.detection.fasterrcnn_resnet50_fpn, weights=None, weights_backbone=None)
    complete = recognise(names).name
    rng = np.random.default_rng(0)
    for missing in rng.choice(list(names), 40, replace=False):
        assert recognise({name: shape for name, shape in names.items() if name != missing}).name == complete
    assert complete in list_models()

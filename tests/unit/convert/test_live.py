"""A live module gives what no state dict tells, and is refused where this library would compute something else."""

from __future__ import annotations

import copy

import pytest

from jaxdet.backbones.base import IMAGENET_MEAN
from jaxdet.data.formats.coco_names import COCO_NAMES
from jaxdet.nn import NormConfig
from jaxdet_convert import RecognitionError, UnsupportedModuleError, from_torch, to_torch
from parity.twins.darknet53 import Darknet53
from parity.twins.mobilenet_v1 import MobileNetV1

torch = pytest.importorskip("torch")


def norms(module):
    return [layer for layer in module.modules() if hasattr(layer, "running_var")]


def test_every_option_of_a_detector(make_detector, torchvision):
    detection = torchvision.models.detection
    anchors = detection.anchor_utils.AnchorGenerator(((8, 16),) * 5, ((0.5, 1.0),) * 5)
    thresholds = {
        "rpn_pre_nms_top_n_train": 11, "rpn_pre_nms_top_n_test": 12, "rpn_post_nms_top_n_train": 13,
        "rpn_post_nms_top_n_test": 14, "rpn_nms_thresh": 0.61, "rpn_fg_iou_thresh": 0.62, "rpn_bg_iou_thresh": 0.33,
        "rpn_batch_size_per_image": 15, "rpn_positive_fraction": 0.34, "rpn_score_thresh": 0.01,
        "box_score_thresh": 0.21, "box_nms_thresh": 0.41, "box_detections_per_img": 16, "box_fg_iou_thresh": 0.63,
        "box_bg_iou_thresh": 0.42, "box_batch_size_per_image": 17, "box_positive_fraction": 0.35,
    }  # fmt: skip
    module = make_detector(
        min_size=301, max_size=402, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6], width=48,
        rpn_anchor_generator=anchors, bbox_reg_weights=(9.0, 8.0, 4.0, 3.0),
        box_roi_pool=torchvision.ops.MultiScaleRoIAlign(["0", "1", "2", "3"], 5, 3),
        box_head=detection.faster_rcnn.TwoMLPHead(48 * 25, 64), **thresholds,
    )  # fmt: skip
    config = from_torch(module).config
    assert (config.transform.min_size, config.transform.max_size) == (301, 402)
    assert (config.transform.image_mean, config.transform.image_std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert config.rpn.anchor_generator.sizes == ((8, 16),) * 5
    assert config.rpn.anchor_generator.aspect_ratios == ((0.5, 1.0),) * 5
    assert config.box.reg_weights == (9.0, 8.0, 4.0, 3.0)
    assert (config.box.output_size, config.box.sampling_ratio, config.fpn.out_channels) == (5, 3, 48)
    for option, value in thresholds.items():
        part, _, name = option.partition("_")
        assert getattr(getattr(config, part), name) == value, option
    assert from_torch(module, box_score_thresh=0.9).config.box.score_thresh == 0.9


def test_norms(make_detector, torchvision):
    module = make_detector(norm=torchvision.ops.FrozenBatchNorm2d)
    for layer in norms(module):
        layer.eps = 0.0
    assert from_torch(module).config.backbone.norm == NormConfig("frozen", eps=0.0)
    norms(module)[3].eps = 1e-3
    with pytest.raises(UnsupportedModuleError, match=r"differ.*bn1: frozen, eps 0.*layer1.0.bn3: frozen, eps 0.001"):
        from_torch(module)
    module = make_detector()
    for layer in norms(module):
        layer.momentum = 0.01
    assert from_torch(module).config.backbone.norm == NormConfig("batch", momentum=0.99)


def test_each_part_of_v2_has_its_own_norm(torchvision):
    module = torchvision.models.detection.fasterrcnn_resnet50_fpn_v2(
        weights=None, weights_backbone=None, min_size=64, max_size=80
    )
    for part, eps in ((module.backbone.body, 1e-3), (module.backbone.fpn, 1e-4), (module.roi_heads.box_head, 1e-6)):
        for layer in norms(part):
            layer.eps = eps
    model = from_torch(module)
    config = model.config
    assert (config.backbone.norm.eps, config.fpn.norm.eps, config.box.norm.eps) == (1e-3, 1e-4, 1e-6)
    assert model.box_head.convs[0].norm.eps == 1e-6
    assert config.names == COCO_NAMES


def test_of_several_sizes_the_last_is_taken_and_said(make_detector):
    with pytest.warns(UserWarning, match=r"\[240, 320\]; 320 is used"):
        model = from_torch(make_detector(min_size=(240, 320)))
    assert model.config.transform.min_size == 320


def test_levels_and_pooling(torchvision):
    utils = torchvision.models.detection.backbone_utils
    resnet = torchvision.models.resnet
    body = resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1])
    backbone = utils._resnet_fpn_extractor(body, 5, returned_layers=[2, 3, 4])
    anchors = torchvision.models.detection.anchor_utils.AnchorGenerator(((32,), (64,), (128,), (256,)), ((1.0,),) * 4)
    pool = torchvision.ops.MultiScaleRoIAlign(["0", "1", "2"], 7, 2)
    module = torchvision.models.detection.FasterRCNN(backbone, 3, rpn_anchor_generator=anchors, box_roi_pool=pool)
    config = from_torch(module).config
    assert config.fpn.levels == ("layer2", "layer3", "layer4") and config.fpn.pool
    module.roi_heads.box_roi_pool.sampling_ratio = -1  # adaptive
    assert from_torch(module).config.box.sampling_ratio == -1
    module.roi_heads.box_roi_pool.featmap_names = ["0", "1"]
    assert from_torch(module).config.box.pool_levels == ("layer2", "layer3")
    module.roi_heads.box_roi_pool.featmap_names = ["a"]
    with pytest.raises(UnsupportedModuleError, match=r"takes the maps \['a'\], but the pyramid's are \['0'"):
        from_torch(module)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: setattr(m.transform, "size_divisible", 64), "size_divisible is 64, but jaxdet only supports 32"),
        (lambda m: setattr(m.transform, "fixed_size", (320, 320)), "fixed_size"),
        (lambda m: setattr(m.roi_heads.box_roi_pool, "output_size", (7, 5)), "square"),
        (lambda m: setattr(m.roi_heads.box_roi_pool, "canonical_scale", 112), "canonical_scale is 112"),
        (lambda m: setattr(m.backbone.body.layer4[0].conv2, "dilation", (2, 2)), "dilated"),
        (lambda m: delattr(m.rpn.anchor_generator, "sizes"), "AnchorGenerator has no sizes"),
        (lambda m: setattr(norms(m)[0], "momentum", None), "momentum=None"),
        (lambda m: setattr(m.transform, "_skip_resize", True), "_skip_resize is True"),
        (lambda m: setattr(m.rpn, "min_size", 2.0), "min_size is 2.0, but jaxdet only supports 0.001"),
        (lambda m: setattr(m.rpn.box_coder, "weights", (10.0, 10.0, 5.0, 5.0)), r"weights is \(10.0"),
        (lambda m: setattr(m.roi_heads.box_roi_pool, "canonical_level", 5), "canonical_level is 5"),
        (lambda m: setattr(m.backbone.body.layer2[0].conv1, "stride", (2, 2)), r"layer2\.0\.conv1 has the stride"),
        (lambda m: setattr(m.backbone.fpn, "extra_blocks", torch.nn.Linear(1, 1)), r"extra levels \(Linear\)"),
    ],
)
def test_what_would_compute_something_else_is_refused(make_detector, change, message):
    module = make_detector()
    change(module)
    with pytest.raises(UnsupportedModuleError, match=message):
        from_torch(module)


def test_classifiers_and_their_activations(torchvision):
    assert from_torch(torchvision.models.resnet50(num_classes=4)).config.num_classes == 4
    assert from_torch(Darknet53(slope=0.1)).config.negative_slope == 0.1
    module = MobileNetV1(num_classes=4)
    assert from_torch(module).config.negative_slope == 0.1
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.LeakyReLU):
                setattr(parent, name, torch.nn.ReLU6())
    assert from_torch(module).config.activation == "relu6"


@pytest.mark.parametrize("kind", ["mobilenet_v1", "darknet53"])
def test_detectors_on_other_bodies_there_and_back(torchvision, darknet, kind):
    if kind == "darknet53":
        body, levels = copy.deepcopy(darknet), {f"residual_block{index + 2}": str(index) for index in range(4)}
        channels = [128, 256, 512, 1024]
    else:
        body, levels = MobileNetV1(), {f"stage{index + 1}": str(index) for index in range(3)}
        channels = [64, 128, 256]
    detection = torchvision.models.detection
    backbone = detection.backbone_utils.BackboneWithFPN(body, levels, channels, 32)
    sizes = ((16,), (32,), (64,), (128,), (256,))[: len(levels) + 1]
    module = detection.FasterRCNN(
        backbone, None, box_head=detection.faster_rcnn.TwoMLPHead(32 * 49, 64),
        rpn_anchor_generator=detection.anchor_utils.AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes)),
        box_roi_pool=torchvision.ops.MultiScaleRoIAlign(list(levels.values()), 7, 2),
        box_predictor=detection.faster_rcnn.FastRCNNPredictor(64, 4),
    )  # fmt: skip
    model = from_torch(module)
    assert model.config.backbone.negative_slope == (0.01 if kind == "darknet53" else 0.1)
    assert model.config.transform.image_mean == IMAGENET_MEAN  # the module's own, whatever its body was trained on
    assert len(model.config.fpn.levels) == len(levels) and model.config.names == ()
    state, tensors = module.state_dict(), to_torch(model)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()}, strict=True)
    assert all(tensors[name].tobytes() == tensor.numpy().tobytes() for name, tensor in state.items())


def test_slopes_that_differ_are_refused():
    module = MobileNetV1(num_classes=4)
    next(layer for layer in module.modules() if isinstance(layer, torch.nn.LeakyReLU)).negative_slope = 0.3
    with pytest.raises(UnsupportedModuleError, match=r"the slopes \[0\.1, 0\.3\]"):
        from_torch(module)


@pytest.mark.parametrize("training", [False, True])
def test_the_module_stays_in_its_mode(make_detector, training):
    module = make_detector().train(training)
    from_torch(module)
    assert module.training is module.transform.training is training


def test_wrapped_modules_and_later_training():
    module = MobileNetV1(num_classes=4)
    model = from_torch(torch.nn.DataParallel(module))
    before = to_torch(model)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.zero_()
    assert all((before[name] == array).all() for name, array in to_torch(model).items())


def test_other_things():
    with pytest.raises(RecognitionError, match="do not belong to a known model"):
        from_torch(torch.nn.Linear(2, 3))
    with pytest.raises(TypeError, match="for weights use load_torch"):
        from_torch({"weight": 1})

"""torchvision's detectors, built of its own parts in a size that trains in seconds."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

from torch import nn

from jaxdet_convert.torchvision_cpu import import_torchvision

CHANNELS, HIDDEN = 32, 64


def slim_torchvision() -> Any:
    """What stands for torchvision where only its detectors are asked for: one bottleneck a stage, 32 channels."""
    builders = {
        "fasterrcnn_resnet50_fpn": partial(_slim, v2=False),
        "fasterrcnn_resnet50_fpn_v2": partial(_slim, v2=True),
        "retinanet_resnet50_fpn": partial(_slim_retinanet, v2=False),
        "retinanet_resnet50_fpn_v2": partial(_slim_retinanet, v2=True),
        "fcos_resnet50_fpn": _slim_fcos,
    }
    models = SimpleNamespace(detection=SimpleNamespace(**builders))
    return SimpleNamespace(models=models, ops=import_torchvision().ops)


def _slim(*, v2: bool, weights: None, weights_backbone: None, num_classes: int = 91, **options: Any) -> nn.Module:
    torchvision = import_torchvision()
    from torchvision.models.detection import backbone_utils, faster_rcnn, rpn

    body = torchvision.models.resnet.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1])
    layers = {f"layer{stage}": str(stage - 1) for stage in (1, 2, 3, 4)}
    norm = nn.BatchNorm2d if v2 else None
    anchors = faster_rcnn._default_anchorgen()
    shape = (CHANNELS, 7, 7)
    if v2:
        head = faster_rcnn.FastRCNNConvFCHead(shape, [CHANNELS] * 4, [HIDDEN], norm_layer=norm)
    else:
        head = faster_rcnn.TwoMLPHead(CHANNELS * 49, HIDDEN)
    return faster_rcnn.FasterRCNN(
        backbone_utils.BackboneWithFPN(body, layers, [256, 512, 1024, 2048], CHANNELS, norm_layer=norm),
        rpn_anchor_generator=anchors,
        rpn_head=rpn.RPNHead(CHANNELS, anchors.num_anchors_per_location()[0], conv_depth=2 if v2 else 1),
        box_head=head,
        box_predictor=faster_rcnn.FastRCNNPredictor(HIDDEN, num_classes),
        **options,
    )


def _slim_retinanet(
    *, v2: bool, weights: None, weights_backbone: None, num_classes: int = 91, **options: Any
) -> nn.Module:
    import_torchvision()
    from torchvision.models.detection import retinanet

    backbone = _pyramid(2048 if v2 else CHANNELS)
    anchors = retinanet._default_anchorgen()
    head = retinanet.RetinaNetHead(
        CHANNELS,
        anchors.num_anchors_per_location()[0],
        num_classes,
        norm_layer=partial(nn.GroupNorm, 8) if v2 else None,
    )
    if v2:
        head.regression_head._loss_type = "giou"
    return retinanet.RetinaNet(backbone, num_classes, anchor_generator=anchors, head=head, **options)


def _slim_fcos(*, weights: None, weights_backbone: None, num_classes: int = 91, **options: Any) -> nn.Module:
    import_torchvision()
    from torchvision.models.detection import fcos

    head = fcos.FCOSHead(CHANNELS, 1, num_classes)
    norm = partial(nn.GroupNorm, 8)  # the default has a group per channel here, which is constant on a map of one pixel
    head.classification_head = fcos.FCOSClassificationHead(CHANNELS, 1, num_classes, norm_layer=norm)
    head.regression_head = fcos.FCOSRegressionHead(CHANNELS, 1, norm_layer=norm)
    return fcos.FCOS(_pyramid(CHANNELS), num_classes, head=head, **options)


def _pyramid(p6_inputs: int) -> nn.Module:
    """A backbone with P3 to P7."""
    torchvision = import_torchvision()
    from torchvision.models.detection import backbone_utils
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    body = torchvision.models.resnet.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1])
    layers = {f"layer{stage}": str(stage - 2) for stage in (2, 3, 4)}
    extra = LastLevelP6P7(p6_inputs, CHANNELS)
    return backbone_utils.BackboneWithFPN(body, layers, [512, 1024, 2048], CHANNELS, extra_blocks=extra)

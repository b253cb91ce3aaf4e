"""Named configurations of Faster R-CNN, and Faster R-CNN on a custom backbone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flax import nnx

from jaxdet.backbones import (
    Backbone,
    Darknet53,
    Darknet53Config,
    MobileNetV1,
    MobileNetV1Config,
    ResNetConfig,
)
from jaxdet.config import override
from jaxdet.heads import AnchorGenerator, BoxConfig, RPNConfig
from jaxdet.models.config import DetectorTransform, FPNConfig
from jaxdet.models.faster_rcnn.config import FasterRCNNConfig
from jaxdet.models.faster_rcnn.model import FasterRCNN
from jaxdet.nn import NormConfig, Numerics


def _resnet() -> FasterRCNNConfig:
    # torchvision freezes the norms of a pretrained backbone.
    return FasterRCNNConfig(backbone=ResNetConfig(num_classes=None, norm=NormConfig("frozen")))


def _resnet_v2() -> FasterRCNNConfig:
    return FasterRCNNConfig(
        backbone=ResNetConfig(num_classes=None),
        fpn=FPNConfig(norm=NormConfig()),
        rpn=RPNConfig(conv_depth=2),
        box=BoxConfig(conv_layers=(256, 256, 256, 256)),
    )


def _mobilenet() -> FasterRCNNConfig:
    return FasterRCNNConfig(
        backbone=MobileNetV1Config(num_classes=None),
        fpn=FPNConfig(levels=MobileNetV1.names),
        rpn=RPNConfig(anchor_generator=AnchorGenerator((32, 64, 128, 256), (0.5, 1.0, 2.0))),
    )


def _darknet() -> FasterRCNNConfig:
    backbone = Darknet53Config(num_classes=None)
    return FasterRCNNConfig(
        backbone=backbone,
        fpn=FPNConfig(levels=Darknet53.names[1:]),
        transform=DetectorTransform(image_mean=backbone.transform.image_mean, image_std=backbone.transform.image_std),
    )


PRESETS: Mapping[str, Callable[..., FasterRCNNConfig]] = {
    "fasterrcnn_resnet50_fpn": _resnet,
    "fasterrcnn_resnet50_fpn_v2": _resnet_v2,
    "fasterrcnn_mobilenet_v1_fpn": _mobilenet,
    "fasterrcnn_darknet53_fpn": _darknet,
}


def faster_rcnn(
    backbone: Backbone,
    num_classes: int,
    *,
    levels: tuple[str, ...] | None = None,
    anchor_sizes: tuple[tuple[float, ...], ...] | None = None,
    numerics: Numerics = Numerics(),
    rngs: nnx.Rngs,
    **options: Any,
) -> FasterRCNN:
    """Faster R-CNN on your own backbone: any NNX module that returns named maps (`jaxdet.backbones.Backbone`).

    Args:
        backbone: declares ``channels`` and ``strides`` of its maps, and whether it masks padding. One that does not
            needs ``canvas="fast"``.
        num_classes: number of classes, including the background.
        levels: the feature maps to build the pyramid on, highest resolution first; by default all.
        anchor_sizes: one tuple per level, including the pooled one; by default eight times the stride of each level.
        options: see `jaxdet.models.model_config`.
    """
    levels = tuple(backbone.channels) if levels is None else tuple(levels)
    strides = [backbone.strides[level] for level in levels]
    pooled = [2 * strides[-1]] if options.get("fpn_pool", True) else []
    sizes = anchor_sizes or tuple((8 * stride,) for stride in [*strides, *pooled])
    config = FasterRCNNConfig(
        backbone=None,
        fpn=FPNConfig(levels=levels),
        rpn=RPNConfig(anchor_generator=AnchorGenerator(sizes, (0.5, 1.0, 2.0))),
        num_classes=num_classes,
    )
    return FasterRCNN(override(config, options), backbone, numerics=numerics, rngs=rngs)

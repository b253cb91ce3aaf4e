"""Named configurations of RetinaNet, and RetinaNet on a custom backbone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from flax import nnx

from jaxdet.backbones import Backbone, ResNetConfig
from jaxdet.config import override
from jaxdet.heads import AnchorGenerator
from jaxdet.models.config import FPNConfig
from jaxdet.models.dense import level_strides
from jaxdet.models.retinanet.config import RATIOS, RetinaNetConfig, three_octaves
from jaxdet.models.retinanet.model import RetinaNet
from jaxdet.nn import NormConfig, Numerics


def _resnet() -> RetinaNetConfig:
    # torchvision freezes the norms of a pretrained backbone.
    return RetinaNetConfig(backbone=ResNetConfig(num_classes=None, norm=NormConfig("frozen")))


def _resnet_v2() -> RetinaNetConfig:
    return RetinaNetConfig(
        backbone=ResNetConfig(num_classes=None),
        fpn=FPNConfig(("layer2", "layer3", "layer4"), pool=False, p6p7="c5"),
        head_norm=NormConfig("group"),
        box_loss="giou",
    )


PRESETS: Mapping[str, Callable[..., RetinaNetConfig]] = {
    "retinanet_resnet50_fpn": _resnet,
    "retinanet_resnet50_fpn_v2": _resnet_v2,
}


def retinanet(
    backbone: Backbone,
    num_classes: int,
    *,
    levels: tuple[str, ...] | None = None,
    anchor_sizes: tuple[tuple[float, ...], ...] | None = None,
    numerics: Numerics = Numerics(),
    rngs: nnx.Rngs,
    **options: Any,
) -> RetinaNet:
    """RetinaNet on your own backbone: any NNX module that returns named maps (`jaxdet.backbones.Backbone`).

    Args:
        backbone: declares ``channels`` and ``strides`` of its maps, and whether it masks padding. One that does not
            needs ``canvas="fast"``.
        num_classes: number of classes, including the background.
        levels: the feature maps to build the pyramid on, highest resolution first; by default all.
        anchor_sizes: one tuple per level, including P6 and P7; by default three sizes per level: 4, 5.04 and 6.35
            times its stride, rounded down to whole pixels.
        options: see `jaxdet.models.model_config`.
    """
    levels = tuple(backbone.channels) if levels is None else tuple(levels)
    config = RetinaNetConfig(
        backbone=None, fpn=FPNConfig(levels, pool=False, p6p7="p5"), num_classes=num_classes
    )  # fmt: skip
    config = override(config, options)
    if "anchor_generator" not in options:
        strides = level_strides(backbone, config.fpn)
        sizes = anchor_sizes or tuple(three_octaves(4 * stride) for stride in strides)
        config = replace(config, anchor_generator=AnchorGenerator(sizes, RATIOS))
    return RetinaNet(config, backbone, numerics=numerics, rngs=rngs)

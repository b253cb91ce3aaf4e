"""Named configurations of FCOS, and FCOS on a custom backbone."""

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
from jaxdet.models.fcos.config import FCOSConfig
from jaxdet.models.fcos.model import FCOS
from jaxdet.nn import NormConfig, Numerics


def _resnet() -> FCOSConfig:
    # torchvision freezes the norms of a pretrained backbone.
    return FCOSConfig(backbone=ResNetConfig(num_classes=None, norm=NormConfig("frozen")))


PRESETS: Mapping[str, Callable[..., FCOSConfig]] = {"fcos_resnet50_fpn": _resnet}


def fcos(
    backbone: Backbone,
    num_classes: int,
    *,
    levels: tuple[str, ...] | None = None,
    anchor_sizes: tuple[float, ...] | None = None,
    numerics: Numerics = Numerics(),
    rngs: nnx.Rngs,
    **options: Any,
) -> FCOS:
    """FCOS on your own backbone: any NNX module that returns named maps (`jaxdet.backbones.Backbone`).

    Args:
        backbone: declares ``channels`` and ``strides`` of its maps, and whether it masks padding. One that does not
            needs ``canvas="fast"``.
        num_classes: number of classes, including the background.
        levels: the feature maps to build the pyramid on, highest resolution first; by default all.
        anchor_sizes: one per level, including P6 and P7; by default the strides.
        options: see `jaxdet.models.model_config`.
    """
    levels = tuple(backbone.channels) if levels is None else tuple(levels)
    config = FCOSConfig(
        backbone=None,
        fpn=FPNConfig(levels, pool=False, p6p7="p5"),
        anchor_generator=AnchorGenerator((1.0,), (1.0,)),
        num_classes=num_classes,
    )
    config = override(config, options)
    if "anchor_generator" not in options:
        sizes = anchor_sizes or level_strides(backbone, config.fpn)
        config = replace(config, anchor_generator=AnchorGenerator(tuple(sizes), (1.0,)))
    return FCOS(config, backbone, numerics=numerics, rngs=rngs)

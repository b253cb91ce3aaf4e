"""Named configurations of classifiers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from jaxdet.backbones.darknet import Darknet53Config
from jaxdet.backbones.mobilenet_v1 import MobileNetV1Config
from jaxdet.backbones.resnet import ResNetConfig

RESNET: Mapping[str, Callable[..., ResNetConfig]] = {
    "resnet50": lambda: ResNetConfig((3, 4, 6, 3)),
    "resnet101": lambda: ResNetConfig((3, 4, 23, 3)),
    "resnet152": lambda: ResNetConfig((3, 8, 36, 3)),
}
MOBILENET_V1: Mapping[str, Callable[..., MobileNetV1Config]] = {"mobilenet_v1": lambda: MobileNetV1Config()}
DARKNET: Mapping[str, Callable[..., Darknet53Config]] = {"darknet53": lambda: Darknet53Config()}

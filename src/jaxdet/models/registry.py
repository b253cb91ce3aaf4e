"""Named models, and how a configuration becomes a module."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, overload

import jax
from flax import nnx

from jaxdet.backbones import (
    Backbone,
    Darknet53,
    Darknet53Config,
    MobileNetV1,
    MobileNetV1Config,
    ResNet,
    ResNetConfig,
)
from jaxdet.backbones.base import ClassifierTransform
from jaxdet.config import nearest, override
from jaxdet.heads import AnchorGenerator, BoxConfig, RPNConfig
from jaxdet.models.faster_rcnn.config import BackboneConfig, DetectorTransform, FasterRCNNConfig, FPNConfig
from jaxdet.models.faster_rcnn.model import FasterRCNN
from jaxdet.models.headhunter.presets import headhunter_config
from jaxdet.models.options import override_model
from jaxdet.necks import ContextConfig
from jaxdet.nn import NormConfig, Numerics
from jaxdet.ops.soft_nms import SoftNMS

Model = ResNet | MobileNetV1 | Darknet53 | FasterRCNN
ModelConfig = BackboneConfig | FasterRCNNConfig

# Everything that a stored configuration may hold.
CONFIG_TYPES: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        AnchorGenerator, BoxConfig, ClassifierTransform, ContextConfig, Darknet53Config, DetectorTransform,
        FasterRCNNConfig, FPNConfig, MobileNetV1Config, NormConfig, Numerics, ResNetConfig, RPNConfig, SoftNMS,
    )
}  # fmt: skip

_BACKBONES: dict[type, Callable[..., Any]] = {
    ResNetConfig: ResNet,
    MobileNetV1Config: MobileNetV1,
    Darknet53Config: Darknet53,
}


def _resnet_detector() -> FasterRCNNConfig:
    # torchvision freezes the norms of a pretrained backbone, which is how this model is used.
    return FasterRCNNConfig(backbone=ResNetConfig(num_classes=None, norm=NormConfig("frozen")))


def _resnet_detector_v2() -> FasterRCNNConfig:
    return FasterRCNNConfig(
        backbone=ResNetConfig(num_classes=None),
        fpn=FPNConfig(norm=NormConfig()),
        rpn=RPNConfig(conv_depth=2),
        box=BoxConfig(conv_layers=(256, 256, 256, 256)),
    )


def _mobilenet_detector() -> FasterRCNNConfig:
    return FasterRCNNConfig(
        backbone=MobileNetV1Config(num_classes=None),
        fpn=FPNConfig(levels=MobileNetV1.names),
        rpn=RPNConfig(anchor_generator=AnchorGenerator((32, 64, 128, 256), (0.5, 1.0, 2.0))),
    )


def _darknet_detector() -> FasterRCNNConfig:
    backbone = Darknet53Config(num_classes=None)
    return FasterRCNNConfig(
        backbone=backbone,
        fpn=FPNConfig(levels=Darknet53.names[1:]),
        transform=DetectorTransform(image_mean=backbone.transform.image_mean, image_std=backbone.transform.image_std),
    )


# What makes each, by its own keyword arguments where it has any.
_PRESETS: dict[str, Callable[..., ModelConfig]] = {
    "resnet50": lambda: ResNetConfig((3, 4, 6, 3)),
    "resnet101": lambda: ResNetConfig((3, 4, 23, 3)),
    "resnet152": lambda: ResNetConfig((3, 8, 36, 3)),
    "mobilenet_v1": lambda: MobileNetV1Config(),
    "darknet53": lambda: Darknet53Config(),
    "fasterrcnn_resnet50_fpn": _resnet_detector,
    "fasterrcnn_resnet50_fpn_v2": _resnet_detector_v2,
    "fasterrcnn_mobilenet_v1_fpn": _mobilenet_detector,
    "fasterrcnn_darknet53_fpn": _darknet_detector,
    "headhunter_resnet50": partial(headhunter_config, ResNetConfig((3, 4, 6, 3), num_classes=None)),
    "headhunter_resnet152": partial(headhunter_config, ResNetConfig((3, 8, 36, 3), num_classes=None)),
    "headhunter_mobilenet": partial(headhunter_config, MobileNetV1Config(num_classes=None)),
}


_DETECTORS = ("fasterrcnn_", "headhunter_")


def list_models() -> list[str]:
    """The names of the models there are."""
    return list(_PRESETS)


def model_config(name: str, **options: Any) -> ModelConfig:
    """The configuration of a named model with some options changed.

    Options are fields of the model's configuration; those of a detector's parts bear torchvision's keyword names
    (``min_size``, ``rpn_nms_thresh``, ``box_score_thresh``), those of its backbone begin with ``backbone_``
    (``backbone_width=0.5``). HeadHunter's others are in `jaxdet.models.headhunter_config`.
    """
    if name not in _PRESETS:
        raise ValueError(f"unknown model {name!r}; known: {', '.join(_PRESETS)}{nearest(name, _PRESETS)}")
    preset = _PRESETS[name]
    known = {key for key, value in inspect.signature(preset).parameters.items() if value.kind is value.KEYWORD_ONLY}
    config = preset(**{key: options.pop(key) for key in known & options.keys()})
    return override_model(config, options, also=known)


def detector_config(name: str, **options: Any) -> FasterRCNNConfig:
    """The configuration of a named detector with some options changed, as `model_config`'s."""
    config = model_config(name, **options)
    if not isinstance(config, FasterRCNNConfig):
        raise ValueError(
            f"{name} is a classifier; detectors are {', '.join(n for n in _PRESETS if n.startswith(_DETECTORS))}"
        )
    return config


@overload
def build(
    config: FasterRCNNConfig,
    *,
    backbone: Backbone | None = None,
    numerics: Numerics = ...,
    rngs: nnx.Rngs | None = None,
) -> FasterRCNN: ...
@overload
def build(
    config: ModelConfig, *, backbone: Backbone | None = None, numerics: Numerics = ..., rngs: nnx.Rngs | None = None
) -> Model: ...
def build(
    config: ModelConfig,
    *,
    backbone: Backbone | None = None,
    numerics: Numerics = Numerics(),
    rngs: nnx.Rngs | None = None,
) -> Model:
    """The model of a configuration; ``backbone`` where the configuration leaves it to the caller."""
    rngs = nnx.Rngs(0) if rngs is None else rngs
    if not isinstance(config, FasterRCNNConfig):
        return _BACKBONES[type(config)](config, numerics=numerics, rngs=rngs)
    if backbone is None:
        if config.backbone is None:
            raise ValueError("this detector stands on a backbone of your own: pass it as backbone=")
        backbone = _BACKBONES[type(config.backbone)](config.backbone, numerics=numerics, rngs=rngs)
    return FasterRCNN(config, backbone, numerics=numerics, rngs=rngs)


def abstract(config: ModelConfig, *, numerics: Numerics = Numerics()) -> Model:
    """The model with shapes in place of parameters: to be filled without making random ones first."""
    return nnx.eval_shape(lambda: build(config, numerics=numerics, rngs=nnx.Rngs(jax.random.key(0))))


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
    """A Faster R-CNN on a backbone of your own: any NNX module that returns named maps (`jaxdet.backbones.Backbone`).

    Args:
        backbone: declares ``channels`` and ``strides`` a map, and whether it masks padding; one that does not needs
            ``canvas="fast"``.
        num_classes: with the background.
        levels: the maps to build the pyramid on, highest resolution first; by default all.
        anchor_sizes: a tuple a level, the max-pooled one included; by default eight times each level's stride.
        options: see `model_config`.
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
    return build(override(config, options), backbone=backbone, numerics=numerics, rngs=rngs)

"""Which options of a run's model follow the weights that it starts from, and in which the configuration decides.

What shapes parameters has to follow, as do the constants of a function that was trained: norms, slopes of activations.
Everything else is the configuration's, so that what a user writes is what is trained. Both are told, a line an option.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jaxdet.backbones import Darknet53Config
from jaxdet.heads import BoxConfig
from jaxdet.models import FasterRCNNConfig
from jaxdet.models.faster_rcnn.config import BackboneConfig
from jaxdet.models.options import changes, differences, label, show_both
from jaxdet.models.registry import ModelConfig
from jaxdet.nn import NormConfig

# Options that the configuration decides, but that the weights were trained with: a difference is told.
_TRAINED_WITH = (
    "rpn_anchor_generator", "fpn_pool", "bbox_reg_weights", "box_sampling_ratio", "box_pool_levels", "image_mean",
    "image_std", "transform",
)  # fmt: skip


def follow_weights(
    config: ModelConfig, weights: ModelConfig, *, where: str = "the start"
) -> tuple[ModelConfig, list[str]]:
    """The configuration of a model that starts from weights of another configuration, and what is to be told of it.

    Classes are ``config``'s. Following a second time changes nothing more.

    Raises:
        ValueError: the weights are of a model of another kind, or on another kind of backbone.
    """
    _check_kind(config, weights, where)
    followed: ModelConfig
    if isinstance(config, FasterRCNNConfig) and isinstance(weights, FasterRCNNConfig):
        followed = _detector(config, weights)
    else:
        followed = _backbone(config, weights)
    lines = [f"{line}, as the weights have" for line in changes(config, followed)]
    for name, *values in differences(followed, weights):
        if name in _TRAINED_WITH:
            ours, theirs = show_both(*values)
            lines.append(f"{label(name)}: {ours} (the weights were trained with {theirs})")
    return followed, lines


def _check_kind(config: ModelConfig, weights: ModelConfig, where: str) -> None:
    if isinstance(config, FasterRCNNConfig) != isinstance(weights, FasterRCNNConfig):
        kind = "a detector" if isinstance(weights, FasterRCNNConfig) else "a classifier"
        hint = "backbone_weights takes a classifier for its body" if kind == "a classifier" else "give a classifier's"
        raise ValueError(f"{where} holds {kind}, and the run trains another kind of model: {hint}")
    ours, theirs = (_kind(one) for one in (config, weights))
    if ours != theirs:
        raise ValueError(f"{where} stands on a {theirs}, and the run trains a {ours}: give weights of that")


def _kind(config: ModelConfig) -> str:
    body = config.backbone if isinstance(config, FasterRCNNConfig) else config
    return "backbone of its own" if body is None else type(body).__name__.removesuffix("Config")


def _detector(ours: FasterRCNNConfig, theirs: FasterRCNNConfig) -> FasterRCNNConfig:
    pool, anchors = _anchors(ours, theirs)
    context = replace(theirs.context, norm=_norm(ours.context.norm, theirs.context.norm))
    rpn = replace(ours.rpn, conv_depth=theirs.rpn.conv_depth, anchor_generator=anchors)
    return replace(
        ours,
        backbone=None if theirs.backbone is None else _backbone(ours.backbone, theirs.backbone),
        fpn=replace(theirs.fpn, norm=_norm(ours.fpn.norm, theirs.fpn.norm), pool=pool),
        context=context if theirs.context.kind is not None else replace(ours.context, kind=None),
        upscale_rpn=theirs.upscale_rpn,
        rpn=rpn,
        box=_box(ours, theirs),
    )


def _backbone(ours: Any, theirs: Any) -> Any:
    """Of a classifier, too: its classes and how images are prepared are ``ours``."""
    norm = _norm(ours.norm, theirs.norm)
    return replace(theirs, norm=norm, num_classes=ours.num_classes, names=ours.names, transform=ours.transform)


def _anchors(ours: FasterRCNNConfig, theirs: FasterRCNNConfig) -> tuple[bool, Any]:
    """Whether there is a pooled level, and the anchors: ours where the weights predict as many on as many levels."""
    pool, old, new = ours.fpn.pool, theirs.rpn.anchor_generator, ours.rpn.anchor_generator
    has_room = pool == theirs.fpn.pool or (theirs.context.kind is None and theirs.fpn.kind == "torchvision")
    as_many = set(old.num_anchors_per_location()) == set(new.num_anchors_per_location())
    if as_many and has_room and len(new.sizes) == len(theirs.fpn.levels) + pool:
        return pool, new
    return theirs.fpn.pool, old


def _box(ours: FasterRCNNConfig, theirs: FasterRCNNConfig) -> BoxConfig:
    old, new = theirs.box, ours.box
    norm = new.norm
    if old.conv_layers:
        norm = _norm(new.norm, old.norm) or old.norm
    known = new.pool_levels is None or set(new.pool_levels) <= set(theirs.fpn.levels)
    return replace(
        new,
        representation_size=old.representation_size,
        conv_layers=old.conv_layers,
        norm=norm,
        output_size=old.output_size,
        pool_levels=new.pool_levels if known else old.pool_levels,
    )


def _norm(ours: NormConfig | None, theirs: NormConfig | None) -> Any:
    """Its kind and eps are the weights'; how fast statistics move from now on is the configuration's."""
    if ours is None or theirs is None:
        return theirs
    return replace(theirs, momentum=ours.momentum)


def follow_classifier(config: FasterRCNNConfig, classifier: BackboneConfig, *, described: bool) -> FasterRCNNConfig:
    """The configuration of a detector whose backbone is filled from a classifier's weights.

    Constants of the trained function follow the weights. So does the normalisation of images, unless the configuration
    differs from its backbone's default, which means that somebody chose it.

    Args:
        described: the classifier's configuration was stored with its weights; otherwise a Darknet-53's slope and
            normalisation are all that is known of it.
    """
    own = config.backbone
    if own is None or type(own) is not type(classifier):
        return config
    backbone: Any
    if described:
        norm = replace(own.norm, eps=classifier.norm.eps)
        backbone = replace(classifier, num_classes=own.num_classes, names=own.names, norm=norm)
    elif isinstance(own, Darknet53Config) and isinstance(classifier, Darknet53Config):
        backbone = replace(own, negative_slope=classifier.negative_slope, transform=classifier.transform)
    else:
        return config
    transform = config.transform
    if _normalisation(transform) == _normalisation(own.transform):
        mean, std = _normalisation(backbone.transform)
        transform = replace(transform, image_mean=mean, image_std=std)
    return replace(config, backbone=backbone, transform=transform)


def _normalisation(transform: Any) -> tuple[Any, Any]:
    return transform.image_mean, transform.image_std

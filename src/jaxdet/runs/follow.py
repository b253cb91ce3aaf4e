"""Which options of a run's model follow the weights that it starts from, and in which the configuration decides.

A model's configuration knows what its weights fix (`jaxdet.models.ModelConfig.fixed_by_weights`). Everything else is
the configuration's, so that what a user writes is what is trained. Both are told, a line an option.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jaxdet.models import DetectorConfig, ModelConfig
from jaxdet.models.options import changes, differences, label, show_both


def follow_weights(
    config: ModelConfig, weights: ModelConfig, *, where: str = "the start"
) -> tuple[ModelConfig, list[str]]:
    """The configuration of a model that starts from weights of another configuration, and what is to be told of it.

    Classes are ``config``'s. Following a second time changes nothing more.

    Raises:
        ValueError: the weights are of a model of another kind, or on another kind of backbone.
    """
    try:
        followed = config.fixed_by_weights(weights)
    except ValueError as error:
        raise ValueError(f"{where} {error}") from None
    lines = [f"{line}, as the weights have" for line in changes(config, followed)]
    for name, *values in differences(followed, weights):
        if name in config.trained_with:
            ours, theirs = show_both(*values)
            lines.append(f"{label(name)}: {ours} (the weights were trained with {theirs})")
    return followed, lines


def follow_classifier(config: DetectorConfig, classifier: Any, *, described: bool) -> DetectorConfig:
    """The configuration of a detector whose backbone is filled from a classifier's weights.

    Constants of the trained function follow the weights. So does the normalisation of images, unless the configuration
    differs from its backbone's default, which means that somebody chose it.

    Args:
        classifier: its configuration.
        described: that was stored with its weights; otherwise only what shapes parameters, and what follows from their
            names, is known of it.
    """
    own: Any = config.backbone_config
    if own is None or type(own) is not type(classifier):
        return config
    if described:
        norm = replace(own.norm, eps=classifier.norm.eps)
        backbone = replace(classifier, num_classes=own.num_classes, names=own.names, norm=norm)
    else:
        backbone = replace(own, **{name: getattr(classifier, name) for name in own.set_by_origin})
    transform = config.transform
    if _normalisation(transform) == _normalisation(own.transform):
        mean, std = _normalisation(backbone.transform)
        transform = replace(transform, image_mean=mean, image_std=std)
    changed: Any = config
    return replace(changed, backbone=backbone, transform=transform)


def _normalisation(transform: Any) -> tuple[Any, Any]:
    return transform.image_mean, transform.image_std

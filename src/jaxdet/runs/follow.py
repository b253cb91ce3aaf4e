"""Adapting a run's model configuration to the weights that it starts from.

Options that the weights determine are taken from them (`jaxdet.models.ModelConfig.fixed_by_weights`). All others are
taken from the run. Each option that was changed, or that had another value in the training of the weights, is reported
in one line.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jaxdet.models import DetectorConfig, ModelConfig
from jaxdet.models.options import changes, differences, label, show_both


def follow_weights(
    config: ModelConfig, weights: ModelConfig, *, where: str = "the start"
) -> tuple[ModelConfig, list[str]]:
    """``config`` adapted to the weights of a stored model, and lines that report the differences. Idempotent.

    The classes of ``config`` are kept.

    Raises:
        ValueError: the weights are of another kind of model or backbone.
    """
    try:
        followed = config.fixed_by_weights(weights)
    except ValueError as error:
        raise ValueError(f"{where} {error}") from None
    lines = [f"{line}, as in the weights" for line in changes(config, followed)]
    for name, *values in differences(followed, weights):
        if name in config.trained_with:
            ours, theirs = show_both(*values)
            lines.append(f"{label(name)}: {ours} (the weights were trained with {theirs})")
    return followed, lines


def follow_classifier(config: DetectorConfig, classifier: Any, *, described: bool) -> DetectorConfig:
    """The configuration of a detector, adapted to a classifier's weights for its backbone.

    Constants of the trained function are taken from the classifier. So is the normalisation of images, unless
    ``config`` sets it to another value than its backbone's default.

    Args:
        classifier: the classifier's configuration.
        described: whether this configuration was stored with the weights. Otherwise, only the options that follow from
            shapes and names of parameters are used.
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

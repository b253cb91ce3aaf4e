"""The weights that a training run starts from: their effect on its configuration, and the initial model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxdet.models import Model, ModelConfig
    from jaxdet.runs import TrainConfig

_ONLY_DETECTORS = "backbone_weights fills a detector's backbone; start a classifier from weights"


def effective_config(config: TrainConfig) -> tuple[TrainConfig, list[str]]:
    """The configuration with the options that the run takes from its weights, and lines that explain the differences.

    Data, checks, records and the model use this configuration. Without ``weights`` and ``backbone_weights`` it is
    ``config``.

    Raises:
        ValueError, OSError: the weights do not exist, cannot be read, or belong to another kind of model.
    """
    from jaxdet.models import Task
    from jaxdet.models.options import changes
    from jaxdet.runs.follow import follow_classifier, follow_weights

    if config.weights:
        weights, _ = _configuration_of(config.weights, config)
        model, lines = follow_weights(config.model, weights, where=config.weights)
        if config.backbone_weights:
            lines.append(_unused_line(config))
        return replace(config, model=model), lines
    if not config.backbone_weights:
        return config, []
    if config.model.task is not Task.DETECTION:
        raise ValueError(_ONLY_DETECTORS)
    classifier: Any
    classifier, described = _configuration_of(config.backbone_weights, config)
    detector: Any = config.model
    # The weights may also be those of a detector without its heads.
    model = follow_classifier(detector, classifier.backbone_config, described=described)
    return replace(config, model=model), [f"{line}, as in the weights" for line in changes(config.model, model)]


def config_or_given(config: TrainConfig) -> tuple[TrainConfig, list[str]]:
    """`effective_config`, or the given configuration and a line about the error if the weights cannot be read."""
    try:
        return effective_config(config)
    except (OSError, ValueError) as error:
        return config, [f"{error}; using the configuration as given"]


def first_model(config: TrainConfig, names: tuple[str, ...], tell: Callable[[str], object]) -> Model:
    """The initial model of a run.

    Args:
        config: the configuration as given.
        names: the class names, with the background in a detector.
        tell: called with a line for each option that is taken from the weights, and for weights that are left out.
    """
    from flax import nnx

    from jaxdet.cli.models import open_weights
    from jaxdet.models import Task
    from jaxdet.runs.start import fresh, model_for, numerics_of, own_backbone, start_from
    from jaxdet.saving.resolve import find_weights

    if config.weights:
        if config.backbone_weights:
            tell(_unused_line(config))
        return start_from(
            model_for(config, names),
            open_weights(config.weights, backbone=nnx.eval_shape(lambda: own_backbone(config, nnx.Rngs(0)))),
            freeze_norms=config.freeze_norms,
            backbone=own_backbone(config, nnx.Rngs(0)),
            numerics=numerics_of(config),
            where=config.weights,
            tell=tell,
        )
    model: Any = fresh(config, names)
    if not config.backbone_weights:
        return model
    if model.config.task is not Task.DETECTION:
        raise ValueError(_ONLY_DETECTORS)
    from jaxdet.models.options import changes
    from jaxdet_convert import load_backbone

    filled, dropped = load_backbone(model, find_weights(config.backbone_weights))
    tell(f"backbone: filled from {config.backbone_weights}; left out: {', '.join(dropped) or 'nothing'}")
    for line in changes(model.config, filled.config):
        tell(f"{line}, as in the weights")
    return filled


def _unused_line(config: TrainConfig) -> str:
    return f"backbone_weights: {config.backbone_weights} is not used, because weights also fill the backbone"


def _configuration_of(weights: str, config: TrainConfig) -> tuple[ModelConfig, bool]:
    """The configuration of the weights' model, and whether it is stored with the weights.

    Official weights are not downloaded for it.
    """
    from jaxdet.paths import to_path
    from jaxdet.saving.open import describe_stored
    from jaxdet.saving.resolve import find_weights
    from jaxdet_convert.read.safetensors_file import is_sharded

    if to_path(weights).is_dir() and not is_sharded(weights):
        return describe_stored(weights).config, True
    from jaxdet_convert import convert_weights, official_config
    from jaxdet_convert.official import OFFICIAL

    if not to_path(weights).exists() and weights in OFFICIAL:
        return official_config(weights), False
    result = convert_weights(find_weights(weights))
    return result.model.config, result.described is not None

"""The model that a run begins with: freshly made, or with the parameters of a stored one."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from flax import nnx
from jax.sharding import Mesh

from jaxdet.detectors import FasterRCNN, FasterRCNNConfig, build
from jaxdet.detectors.presets import Model, ModelConfig
from jaxdet.nn import NormConfig, Numerics
from jaxdet.runs.checkpoint import arrays, fill
from jaxdet.runs.config import TrainConfig
from jaxdet.training import Objective, OptimizerConfig, TrainState, init_state, make_optimizer, make_train_step
from jaxdet.training.step import TrainStep

_BOX_MEANING = ("representation_size", "conv_layers", "norm", "output_size", "sampling_ratio", "reg_weights")


def fresh(config: TrainConfig, names: tuple[str, ...]) -> Model:
    """The run's model with new parameters, on the run's own backbone where it brings one.

    Args:
        names: of the classes, a detector's with the background.

    Raises:
        ValueError: the detector has no backbone, or two.
    """
    model, numerics = model_for(config, names), numerics_of(config)
    if config.freeze_norms:
        model = with_frozen_norms(model)
    if config.backbone is None:
        return build(model, numerics=numerics)
    if not isinstance(model, FasterRCNNConfig) or model.backbone is not None:
        raise ValueError("backbone= is for a detector whose model has backbone=None; the model has one of its own")
    rngs = nnx.Rngs(0)
    return build(model, backbone=config.backbone(numerics=numerics, rngs=rngs), numerics=numerics, rngs=rngs)


def first_state(
    model: nnx.Module, config: TrainConfig, optimizer: OptimizerConfig, steps: int, objective: Objective, mesh: Mesh
) -> tuple[tuple[nnx.GraphDef, TrainStep], TrainState]:
    """The structure of a run and its train step, and the state before the first of so many steps."""
    update = make_optimizer(optimizer, steps)
    graphdef, state = init_state(model, update, frozen=config.frozen, ema=config.ema_decay is not None)
    step = make_train_step(
        graphdef,
        update,
        objective=objective,
        frozen=config.frozen,
        mesh=mesh,
        ema_decay=config.ema_decay,
        accumulate=optimizer.accumulate,
    )
    return (graphdef, step), state


def numerics_of(config: TrainConfig) -> Numerics:
    """The precision of a run; parameters are float32."""
    return Numerics(config.dtype, precision=config.precision)


def model_for(config: TrainConfig, names: tuple[str, ...]) -> ModelConfig:
    """The model's configuration for the classes of a data set (a detector's with the background)."""
    return replace(config.model, num_classes=len(names), names=names)


def with_frozen_norms(model: ModelConfig) -> ModelConfig:
    """The same model with the batch norms of its body frozen: statistics, scales and biases are constants."""
    if not isinstance(model, FasterRCNNConfig):
        return replace(model, norm=_frozen(model.norm))
    if model.backbone is None:
        raise ValueError("freeze_norms freezes those of jaxdet's own bodies; freeze your own in its constructor")
    return replace(model, backbone=replace(model.backbone, norm=_frozen(model.backbone.norm)))


def _frozen(norm: NormConfig) -> NormConfig:
    if norm.kind == "group":
        raise ValueError("freeze_norms freezes batch norms; group norms have no statistics to freeze: leave it out")
    return replace(norm, kind="frozen")


def start_from(
    config: ModelConfig,
    stored: Model,
    *,
    freeze_norms: bool = False,
    numerics: Numerics = Numerics(),
    where: str = "the start",
) -> Model:
    """A model with the parameters of a stored one; a predictor for another number of classes starts anew.

    What gives the stored parameters their meaning comes with them: of a detector its body, pyramid, context modules,
    upscaling, anchors, box coding and normalisation; of a classifier all but its classes. Sizes, thresholds, sampling
    and classes are ``config``'s.

    Raises:
        ValueError: the stored model is of another kind, or anything but the predictor differs in shape; all are listed.
    """
    if isinstance(config, FasterRCNNConfig) != isinstance(stored, FasterRCNN):
        kind = "a detector" if isinstance(stored, FasterRCNN) else "a classifier"
        hint = "backbone_weights takes a classifier for its body" if kind == "a classifier" else "give a classifier's"
        raise ValueError(f"{where} holds {kind}, and the run trains another kind of model: {hint}")
    ours, theirs = (_body(one) for one in (config, stored.config))
    if ours != theirs:
        raise ValueError(f"{where} stands on a {theirs}, and the run trains a {ours}: give weights of that")
    _tell_of_structure(config, stored.config, where)
    config = _meaning(config, stored.config)
    config = with_frozen_norms(config) if freeze_norms else config
    model = build(config, numerics=numerics)
    values, own = arrays(stored), arrays(model)
    predictor = "box_predictor." if isinstance(config, FasterRCNNConfig) else "fc."
    differing = {name for name in values if name in own and values[name].shape != own[name].shape}
    uncounted = {name for name in values.keys() ^ own.keys() if not name.endswith(".count")}  # frozen norms count none
    wrong = sorted(uncounted | {name for name in differing if not name.startswith(predictor)})
    if wrong:
        raise ValueError(f"{where} holds another model; these differ: {', '.join(wrong)}")
    return fill(model, own | {name: value for name, value in values.items() if name in own and name not in differing})


def _body(config: ModelConfig) -> str:
    body = config.backbone if isinstance(config, FasterRCNNConfig) else config
    return "backbone of its own" if body is None else type(body).__name__.removesuffix("Config")


def _tell_of_structure(config: Any, old: Any, where: str) -> None:
    """Names in the log the modules that the stored model has and the configuration does not ask for, or has not."""
    if isinstance(config, FasterRCNNConfig):
        differing = [
            f"{name}={theirs!r}, not {ours!r}"
            for name, theirs, ours in (
                ("context", old.context.kind, config.context.kind),
                ("upscale_rpn", old.upscale_rpn, config.upscale_rpn),
            )
            if theirs != ours
        ]
        if differing:
            logging.getLogger("jaxdet").warning("%s was trained with %s: it stays so", where, "; ".join(differing))


def _meaning(config: Any, old: Any) -> Any:
    """``config`` with all that the parameters of ``old`` mean something by."""
    if not isinstance(config, FasterRCNNConfig):
        return replace(old, num_classes=config.num_classes, names=config.names)
    return replace(
        config,
        backbone=old.backbone,
        fpn=old.fpn,
        context=old.context,
        upscale_rpn=old.upscale_rpn,
        rpn=replace(config.rpn, anchor_generator=old.rpn.anchor_generator, conv_depth=old.rpn.conv_depth),
        box=replace(config.box, **{name: getattr(old.box, name) for name in _BOX_MEANING}),
        transform=replace(config.transform, image_mean=old.transform.image_mean, image_std=old.transform.image_std),
    )

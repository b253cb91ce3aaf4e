"""The initial model of a run: freshly initialised, or with the parameters of a stored model."""

from __future__ import annotations

import logging
from collections.abc import Callable

from flax import nnx
from jax.sharding import Mesh

from jaxdet.backbones import Backbone
from jaxdet.base import Model
from jaxdet.models import ModelConfig, build
from jaxdet.nn import Numerics
from jaxdet.runs.config import TrainConfig
from jaxdet.runs.follow import follow_weights
from jaxdet.saving.model import arrays, fill
from jaxdet.training import Objective, OptimizerConfig, TrainState, init_state, make_optimizer, make_train_step
from jaxdet.training.step import TrainStep
from jaxdet.typed import shortened

_LOG = logging.getLogger("jaxdet")


def fresh(config: TrainConfig, names: tuple[str, ...]) -> Model:
    """The run's model with freshly initialised parameters, on the configuration's own backbone if it has one.

    Args:
        names: class names, for a detector including the background.

    Raises:
        ValueError: the configuration has no backbone for the detector, or two.
    """
    model, numerics = model_for(config, names), numerics_of(config)
    if config.freeze_norms:
        model = model.with_frozen_norms()
    rngs = nnx.Rngs(0)
    return build(model, backbone=own_backbone(config, rngs), numerics=numerics, rngs=rngs)


def own_backbone(config: TrainConfig, rngs: nnx.Rngs) -> Backbone | None:
    """The configuration's own backbone, freshly initialised; None if it has none.

    Raises:
        ValueError: the model's configuration also has a backbone.
    """
    if config.backbone is None:
        return None
    if not config.model.needs_backbone:
        raise ValueError("backbone= is for a model with backbone=None, and this model has a backbone")
    return config.backbone(numerics=numerics_of(config), rngs=rngs)


def first_state(
    model: nnx.Module, config: TrainConfig, optimizer: OptimizerConfig, steps: int, objective: Objective, mesh: Mesh
) -> tuple[tuple[nnx.GraphDef, TrainStep], TrainState]:
    """((graphdef, train step), initial state) of a run of ``steps``."""
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
    """The numerics of a run; parameters are float32."""
    return Numerics(config.dtype, precision=config.precision)


def model_for(config: TrainConfig, names: tuple[str, ...]) -> ModelConfig:
    """The model's configuration for the classes of a dataset (for a detector including the background)."""
    return config.model.with_classes(names)


def start_from(
    config: ModelConfig,
    stored: Model,
    *,
    freeze_norms: bool = False,
    backbone: Backbone | None = None,
    numerics: Numerics = Numerics(),
    where: str = "the start",
    tell: Callable[[str], object] | None = None,
) -> Model:
    """A model with the parameters of a stored one. A predictor for another number of classes is initialised anew.

    Its options are ``config``'s, except for those that depend on the parameters: see `jaxdet.runs.follow`.

    Args:
        backbone: the backbone, if ``config`` has none; its parameters are replaced by the stored ones.
        where: the name of the stored model in messages.
        tell: called with a line for each option taken from the stored model or different from its, and for the
            predictor; by default they are logged.

    Raises:
        ValueError: the stored model is of another kind, or has other parameters (except in the predictor); the message
            lists them.
    """
    tell = (lambda line: _LOG.warning("%s: %s", where, line)) if tell is None else tell
    config, lines = follow_weights(config, stored.config, where=where)
    config = config.with_frozen_norms() if freeze_norms else config
    for line in lines:
        tell(line)
    model = build(config, backbone=backbone, numerics=numerics)
    values, own = arrays(stored), arrays(model)
    differing = {name for name in values if name in own and values[name].shape != own[name].shape}
    # Frozen norms have no counter.
    missing_or_extra = {name for name in values.keys() ^ own.keys() if not name.endswith(".count")}
    wrong = sorted(missing_or_extra | {name for name in differing if not name.startswith(config.predictor)})
    if wrong:
        raise ValueError(f"{where} holds another model; these parameters differ: {', '.join(wrong)}")
    tell(_describe_predictor(config, stored.config, fresh=bool(differing)))
    kept = {name: value.astype(own[name].dtype) for name, value in values.items() if name in own.keys() - differing}
    return fill(model, own | kept)


def _describe_predictor(config: ModelConfig, stored: ModelConfig, *, fresh: bool) -> str:
    if fresh:
        return f"predictor: initialised for {config.num_classes} classes (the weights have {stored.num_classes})"
    if config.names and stored.names and config.names != stored.names:
        old, new = (shortened(", ".join(names)) for names in (stored.names, config.names))
        return f"predictor: kept, for the same number of classes with other names: {old} -> {new}"
    return "predictor: kept, for the same number of classes"

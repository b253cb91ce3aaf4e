"""Learning-rate schedules and optimizers, as the field's recipes name them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import optax


@dataclass(frozen=True)
class OptimizerConfig:
    """SGD with momentum and PyTorch's (coupled) weight decay, or AdamW.

    learning_rate: after the warm-up.
    schedule: ``"multistep"`` multiplies by ``gamma`` at each of ``milestones`` (steps); ``"cosine"`` decays to zero at
        the last step; ``"constant"``.
    warmup_steps: of linear growth from ``warmup_factor`` of the learning rate, as torchvision's references do.
    clip_norm: largest norm of the gradient; None: unbounded.
    """

    kind: str = "sgd"
    learning_rate: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: str = "multistep"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    warmup_steps: int = 1000
    warmup_factor: float = 1e-3
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        for field, known in (("kind", ("sgd", "adamw")), ("schedule", ("multistep", "cosine", "constant"))):
            if getattr(self, field) not in known:
                raise ValueError(f"optimizer {field} is one of {', '.join(known)}, not {getattr(self, field)!r}")


def warmup(schedule: optax.Schedule, steps: int, factor: float) -> optax.Schedule:
    """``schedule`` with its first ``steps`` values growing linearly from ``factor`` of them."""
    if steps == 0:
        return schedule
    ramp = optax.linear_schedule(factor, 1.0, steps)
    return lambda step: schedule(step) * ramp(step)


def multistep(learning_rate: float, milestones: Sequence[int], gamma: float) -> optax.Schedule:
    """PyTorch's ``MultiStepLR``: multiplied by ``gamma`` from each milestone on."""
    return optax.piecewise_constant_schedule(learning_rate, dict.fromkeys(milestones, gamma))


def make_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """The learning rate as a function of the step, for a run of ``steps``."""
    if config.schedule == "cosine":
        schedule = optax.cosine_decay_schedule(config.learning_rate, steps)
    elif config.schedule == "multistep":
        schedule = multistep(config.learning_rate, config.milestones, config.gamma)
    else:
        schedule = optax.constant_schedule(config.learning_rate)
    return warmup(schedule, min(config.warmup_steps, steps), config.warmup_factor)


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """The optimizer of a run of ``steps``."""
    schedule = make_schedule(config, steps)
    parts = [] if config.clip_norm is None else [optax.clip_by_global_norm(config.clip_norm)]
    if config.kind == "sgd":
        parts += [optax.add_decayed_weights(config.weight_decay), optax.sgd(schedule, momentum=config.momentum)]
    else:
        parts += [optax.adamw(schedule, weight_decay=config.weight_decay)]
    return optax.chain(*parts)

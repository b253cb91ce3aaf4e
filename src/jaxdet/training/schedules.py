"""Configuration of optimizers, and learning-rate schedules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import optax

from jaxdet.training.spans import AnySpan, Epochs, Steps

_CHOICES = {"kind": ("sgd", "adamw"), "schedule": ("multistep", "cosine", "constant")}


@dataclass(frozen=True)
class OptimizerConfig:
    """SGD with momentum, or AdamW, with a learning-rate schedule. A step is a batch.

    learning_rate: the learning rate after the warm-up.
    decoupled: apply SGD's weight decay to the parameters directly (``learning_rate * weight_decay``), instead of adding
        it to the gradient as PyTorch does. AdamW's weight decay is always decoupled.
    norm_weight_decay: weight decay of the scales and biases of norms; None: ``weight_decay``.
    lr_scales: factors of the learning rate by parameter path, ``(("backbone", 0.1), ...)``; the longest matching path
        applies.
    betas, eps: of AdamW.
    schedule: ``"multistep"`` multiplies by ``gamma`` at each of ``milestones``; ``"cosine"`` decays to zero at the last
        step; ``"constant"``.
    milestones: in steps; in a run's configuration also `Epochs` (see `jaxdet.runs.TrainConfig`).
    warmup_steps: steps of linear warm-up from ``warmup_factor`` times the rate, as in torchvision's references.
    clip_norm: maximum global norm of the gradient; None: unlimited.
    accumulate: number of steps whose gradients are averaged for one update.
    """

    kind: str = "sgd"
    learning_rate: float = 0.02
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    decoupled: bool = False
    norm_weight_decay: float | None = None
    lr_scales: tuple[tuple[str, float], ...] = ()
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    schedule: str = "multistep"
    milestones: tuple[AnySpan, ...] = ()
    gamma: float = 0.1
    warmup_steps: int = 1000
    warmup_factor: float = 1e-3
    clip_norm: float | None = None
    accumulate: int = 1

    def __post_init__(self) -> None:
        for field, known in _CHOICES.items():
            if getattr(self, field) not in known:
                raise ValueError(f"optimizer {field} must be one of {', '.join(known)}, not {getattr(self, field)!r}")
        if self.accumulate < 1:
            raise ValueError(f"optimizer accumulate must be at least 1, not {self.accumulate}")
        for name in ("learning_rate", "momentum", "weight_decay", "warmup_steps", "warmup_factor", "gamma"):
            if getattr(self, name) < 0:
                raise ValueError(f"optimizer {name} must be at least 0, not {getattr(self, name)}")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ValueError(f"optimizer clip_norm must be above 0, or None for no bound, not {self.clip_norm}")
        for unit in (Steps, Epochs):
            marks = [mark.count for mark in self.milestones if isinstance(mark, unit)]
            marks += [mark for mark in self.milestones if unit is Steps and isinstance(mark, int | float)]  # type: ignore[misc]
            if marks != sorted(marks):
                raise ValueError(f"optimizer milestones must ascend, not {', '.join(map(str, self.milestones))}")


def warmup(schedule: optax.Schedule, steps: int, factor: float) -> optax.Schedule:
    """``schedule``, with linear warm-up from ``factor`` times its value over the first ``steps``."""
    if steps == 0:
        return schedule
    ramp = optax.linear_schedule(factor, 1.0, steps)
    return lambda step: schedule(step) * ramp(step)


def multistep(learning_rate: float, milestones: Sequence[int], gamma: float) -> optax.Schedule:
    """PyTorch's ``MultiStepLR``: the learning rate is multiplied by ``gamma`` at each milestone."""
    return optax.piecewise_constant_schedule(learning_rate, dict.fromkeys(milestones, gamma))


def make_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """The learning rate as a function of the step, for a run of ``steps``."""
    if config.schedule == "cosine":
        schedule = optax.cosine_decay_schedule(config.learning_rate, steps)
    elif config.schedule == "multistep":
        schedule = multistep(config.learning_rate, _steps(config.milestones), config.gamma)
    else:
        schedule = optax.constant_schedule(config.learning_rate)
    whole = warmup(schedule, min(config.warmup_steps, steps), config.warmup_factor)
    return lambda step: whole(jnp.asarray(step, jnp.result_type(float)))  # for integers, JAX would compute in float32


def _steps(milestones: Sequence[AnySpan]) -> list[int]:
    """Milestones in steps. Raises ValueError for epochs, which a schedule cannot convert."""
    marks = [mark.count if isinstance(mark, Steps) else mark for mark in milestones]
    for mark in marks:
        if not isinstance(mark, int | float):
            raise ValueError(f"a schedule counts steps: convert the milestone {mark} to steps (jaxdet.runs.run_length)")
    return marks  # type: ignore[return-value]

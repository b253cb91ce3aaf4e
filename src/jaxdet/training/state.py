"""What a training run carries from step to step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array

Filter = Callable[[tuple[Any, ...], Any], bool]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """Arrays only; the model's structure (its ``graphdef``) lies beside it."""

    step: Array  # [] int32, how many steps are done
    params: nnx.State  # what the optimizer moves
    rest: nnx.State  # frozen parameters and batch statistics
    opt_state: optax.OptState


def trainable(frozen: tuple[str, ...] = ()) -> Filter:
    """The parameters that train: all but those whose path begins with one of ``frozen`` (``"backbone.layer1"``)."""

    def wanted(path: tuple[Any, ...], variable: Any) -> bool:
        if not (isinstance(variable, nnx.Param) or getattr(variable, "type", None) is nnx.Param):
            return False
        name = ".".join(str(part) for part in path)
        return not any(name == prefix or name.startswith(prefix + ".") for prefix in frozen)

    return wanted


def init_state(
    model: nnx.Module, optimizer: optax.GradientTransformation, *, frozen: tuple[str, ...] = ()
) -> tuple[nnx.GraphDef, TrainState]:
    """Split a model into its structure and the state of a run that starts from it."""
    wanted = trainable(frozen)
    graphdef, *states = nnx.split(model, wanted, nnx.Not(wanted))
    params, rest = states
    known = {".".join(str(part) for part in path) for path, _ in nnx.to_flat_state(rest)}
    for prefix in frozen:
        if not any(name == prefix or name.startswith(prefix + ".") for name in known):
            raise ValueError(f"nothing to freeze under {prefix!r}; the model has {', '.join(sorted(_tops(model)))}")
    return graphdef, TrainState(jnp.zeros((), jnp.int32), params, rest, optimizer.init(params))


def _tops(model: nnx.Module) -> set[str]:
    return {str(path[0]) for path, _ in nnx.to_flat_state(nnx.state(model))}


def to_model(graphdef: nnx.GraphDef, state: TrainState) -> Any:
    """The model of a state."""
    return nnx.merge(graphdef, state.params, state.rest)

"""Parameters and statistics of modules by dotted path."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

AnyModel = TypeVar("AnyModel", bound=nnx.Module)


def flatten(state: nnx.State) -> dict[str, Any]:
    """A module's state as ``{"backbone.conv1.conv.kernel": variable, ...}``."""
    return {".".join(str(part) for part in path): variable for path, variable in nnx.to_flat_state(state)}


def arrays(model: nnx.Module) -> dict[str, jax.Array]:
    """All parameters and statistics of a model by dotted path."""
    return {path: variable[...] for path, variable in flatten(nnx.state(model)).items()}


def shapes(model: nnx.Module) -> dict[str, tuple[int, ...]]:
    """The shapes of all parameters and statistics of a model, abstract or not, by dotted path."""
    return {path: tuple(variable.shape) for path, variable in flatten(nnx.state(model)).items()}


def fill(model: AnyModel, values: dict[str, Any]) -> AnyModel:
    """Fills an abstract model with the values of all its parameters and statistics, by dotted path."""
    graphdef, state = nnx.split(model)
    filled = [
        (path, variable.replace(jnp.asarray(values[".".join(str(part) for part in path)])))
        for path, variable in nnx.to_flat_state(state)
    ]
    return nnx.merge(graphdef, nnx.from_flat_state(filled))

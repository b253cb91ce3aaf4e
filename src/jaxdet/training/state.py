"""The state of a training run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array

from jaxdet.config import nearest

_STATISTICS = ("mean", "var", "count")  # of norms
Filter = Callable[[tuple[Any, ...], Any], bool]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """The arrays of a training run. The model's structure (its ``graphdef``) is separate.

    After a loss that is not finite, ``healthy`` is False and further steps change nothing: the state remains the one
    before that step, which can thus be replayed.
    """

    step: Array  # [] int32, number of completed steps
    healthy: Array  # [] bool, whether all losses so far were finite
    params: nnx.State  # trained parameters
    rest: nnx.State  # frozen parameters and batch statistics
    opt_state: optax.OptState
    ema: tuple[nnx.State, nnx.State] | None = None  # moving averages of params and rest


def under(name: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a dotted path equals one of the prefixes or lies under one."""
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def check_paths(option: str, paths: Iterable[str], names: Iterable[str], what: str = "in the model") -> None:
    """Raises ValueError for the first of ``paths`` that contains none of the dotted ``names``.

    Args:
        option: the option with the paths; what: the kind of names, for the message.
    """
    known = list(names)
    # Every path in the tree, outer ones first.
    nodes = sorted({name[:end] for name in known for end in _ends(name)}, key=lambda node: (node.count("."), node))
    for path in paths:
        if not any(under(name, (path,)) for name in known):
            tops = ", ".join(node for node in nodes if "." not in node)
            raise ValueError(
                f"{option}: nothing {what} lies under {path!r}{nearest(path, nodes) or '.'} The model has {tops}"
            )


def _ends(name: str) -> list[int]:
    return [index for index, character in enumerate(name) if character == "."] + [len(name)]


def trainable(frozen: tuple[str, ...] = ()) -> Filter:
    """A filter for the trained parameters: all except those under a path of ``frozen`` (``"backbone.layer1"``)."""

    def wanted(path: tuple[Any, ...], variable: Any) -> bool:
        if not (isinstance(variable, nnx.Param) or getattr(variable, "type", None) is nnx.Param):
            return False
        return not under(".".join(str(part) for part in path), frozen)

    return wanted


def init_state(
    model: nnx.Module,
    optimizer: optax.GradientTransformation,
    *,
    frozen: tuple[str, ...] = (),
    ema: bool = False,
) -> tuple[nnx.GraphDef, TrainState]:
    """Splits a model into its structure and the initial state of a run.

    Args:
        frozen: paths of parameters that are not trained.
        ema: keep moving averages of parameters and statistics, which start at their values.

    Raises:
        ValueError: no parameter lies under a path of ``frozen``.
    """
    wanted = trainable(frozen)
    graphdef, *states = nnx.split(model, wanted, nnx.Not(wanted))
    params, rest = states
    # The statistics of norms are updated nevertheless.
    names = [name for name in (*_names(params), *_names(rest)) if name.rpartition(".")[2] not in _STATISTICS]
    check_paths("frozen", frozen, names, "to freeze")
    averages = jax.tree.map(jnp.copy, (params, rest)) if ema else None  # copies, as the state is donated
    state = TrainState(jnp.zeros((), jnp.int32), jnp.ones((), bool), params, rest, optimizer.init(params), averages)
    return graphdef, state


def _names(state: nnx.State) -> list[str]:
    return [".".join(str(part) for part in path) for path, _ in nnx.to_flat_state(state)]


def to_model(graphdef: nnx.GraphDef, state: TrainState, *, ema: bool = False) -> Any:
    """The model of a state, or of its moving averages. It shares the state's arrays."""
    if not ema:
        return nnx.merge(graphdef, state.params, state.rest)
    if state.ema is None:
        raise ValueError("this state has no moving averages; start the run with ema=True")
    return nnx.merge(graphdef, *state.ema)


def moving_average(average: Any, current: Any, decay: float, updates: Array) -> Any:
    """``decay * average + (1 - decay) * current`` for every leaf; counters are copied.

    The decay is at most ``(1 + updates) / (10 + updates)``, so that the initial values are soon forgotten.
    """
    updates = updates.astype(jnp.float32)
    ramp = jnp.minimum(decay, (1 + updates) / (10 + updates))

    def mix(old: Array, new: Array) -> Array:
        if not jnp.issubdtype(new.dtype, jnp.floating):
            return new
        share = ramp.astype(new.dtype)
        return old * share + new * (1 - share)

    return jax.tree.map(mix, average, current)

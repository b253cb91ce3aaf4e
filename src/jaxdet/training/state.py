"""What a training run carries from step to step."""

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
    """Arrays only; the model's structure (its ``graphdef``) lies beside it.

    Once a loss was not finite, ``healthy`` is False and no further step changes anything: what is here is the state
    from which that step can be replayed.
    """

    step: Array  # [] int32, how many steps are done
    healthy: Array  # [] bool, all losses so far were finite
    params: nnx.State  # what the optimizer moves
    rest: nnx.State  # frozen parameters and batch statistics
    opt_state: optax.OptState
    ema: tuple[nnx.State, nnx.State] | None = None  # moving averages of params and rest


def under(name: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a dotted path is one of the prefixes, or lies under one."""
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def check_paths(option: str, paths: Iterable[str], names: Iterable[str], what: str = "in the model") -> None:
    """Raises ValueError for the first of ``paths`` under which none of the dotted ``names`` lies.

    Args:
        option: which gave the paths; what: says of which kind the names are.
    """
    known = list(names)
    # Every place of the tree, outer ones first.
    places = sorted({name[:end] for name in known for end in _ends(name)}, key=lambda place: (place.count("."), place))
    for path in paths:
        if not any(under(name, (path,)) for name in known):
            tops = ", ".join(place for place in places if "." not in place)
            raise ValueError(
                f"{option}: nothing {what} lies under {path!r}{nearest(path, places) or '.'} It has {tops}"
            )


def _ends(name: str) -> list[int]:
    return [place for place, character in enumerate(name) if character == "."] + [len(name)]


def trainable(frozen: tuple[str, ...] = ()) -> Filter:
    """The parameters that train: all but those whose path begins with one of ``frozen`` (``"backbone.layer1"``)."""

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
    """Split a model into its structure and the state of a run that starts from it.

    Args:
        ema: also carry moving averages of the parameters and statistics, which start at their values.

    Raises:
        ValueError: nothing lies under an entry of ``frozen``.
    """
    wanted = trainable(frozen)
    graphdef, *states = nnx.split(model, wanted, nnx.Not(wanted))
    params, rest = states
    # The statistics of norms move all the same.
    names = [name for name in (*_names(params), *_names(rest)) if name.rpartition(".")[2] not in _STATISTICS]
    check_paths("frozen", frozen, names, "to freeze")
    averages = jax.tree.map(jnp.copy, (params, rest)) if ema else None  # of their own: the state is donated
    state = TrainState(jnp.zeros((), jnp.int32), jnp.ones((), bool), params, rest, optimizer.init(params), averages)
    return graphdef, state


def _names(state: nnx.State) -> list[str]:
    return [".".join(str(part) for part in path) for path, _ in nnx.to_flat_state(state)]


def to_model(graphdef: nnx.GraphDef, state: TrainState, *, ema: bool = False) -> Any:
    """The model of a state, or of its moving averages; it shares the state's arrays."""
    if not ema:
        return nnx.merge(graphdef, state.params, state.rest)
    if state.ema is None:
        raise ValueError("this state carries no moving averages; start the run with ema=True")
    return nnx.merge(graphdef, *state.ema)


def moving_average(average: Any, current: Any, decay: float, updates: Array) -> Any:
    """``decay`` of the average and the rest of ``current``, leaf by leaf; counters are copied.

    The decay grows towards its value as ``(1 + updates) / (10 + updates)``, so that the average forgets the start.
    """
    updates = updates.astype(jnp.float32)
    ramp = jnp.minimum(decay, (1 + updates) / (10 + updates))

    def mix(old: Array, new: Array) -> Array:
        if not jnp.issubdtype(new.dtype, jnp.floating):
            return new
        share = ramp.astype(new.dtype)
        return old * share + new * (1 - share)

    return jax.tree.map(mix, average, current)

"""Going on from another run's checkpoint with a changed configuration, in a folder of its own.

Parameters, statistics, the optimizer's state, moving averages and the step are taken over. What differs between the two
runs is listed; what cannot be taken over is refused. The other run's folder is only read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdet.paths import absolute
from jaxdet.runs.config import Length
from jaxdet.runs.record import RECORD, differences, read_record
from jaxdet.saving.open import CHECKPOINTS
from jaxdet.saving.stored_state import StoredState, is_checkpoint, saved_steps
from jaxdet.saving.train_state import flat, names_of
from jaxdet.training import OptimizerConfig, TrainState, make_schedule

_CHAIN = re.compile(r"\[\d+\](?=\.)")  # a place in the chain of an optimizer's parts
Shapes = dict[str, tuple[tuple[int, ...], str]]


@dataclass(frozen=True)
class Taken:
    """What was taken over.

    state: placed as the new run's own; differences: between the two runs, a line each; notes: what else to know.
    """

    state: TrainState
    step: int
    differences: tuple[str, ...]
    notes: tuple[str, ...]


def find_checkpoint(source: str | Path) -> Path:
    """The folder of a checkpoint: of the one given, or of the last one of the run given.

    Raises:
        ValueError: there is none.
    """
    folder = absolute(source)
    if is_checkpoint(folder):
        return folder
    steps = saved_steps(folder / CHECKPOINTS)
    if not steps:
        what = "has saved no checkpoint yet" if (folder / RECORD).is_file() else "is no training run's folder"
        raise ValueError(f"--from {source}: it {what}; give the folder of a run, or of one of its checkpoints")
    return folder / CHECKPOINTS / str(steps[-1])


def take_over(source: str | Path, like: TrainState, record: dict[str, Any], length: Length) -> Taken:
    """The state that a new run begins with.

    Args:
        source: the folder of a run, or of one of its checkpoints.
        like: the new run's own first state, whose structure and placement the result has.
        record: of the new run (`jaxdet.runs.record.make_record`); length: of the new run.

    Raises:
        ValueError: the other run trained another model or other parameters of it, or by an optimizer of another kind;
            or it is as long already.
        CheckpointError: the checkpoint does not read.
    """
    stored = StoredState(find_checkpoint(source), together=True)
    try:
        old = read_record(stored.place.parent.parent / RECORD)
    except ValueError as error:
        raise ValueError(f"--from {source}: {error}") from None
    found = differences(old, record)
    own = {name: (tuple(leaf.shape), str(leaf.dtype)) for name, leaf in flat(like).items()}
    _check_model(source, stored.shapes, own)
    _check_frozen(source, stored.shapes, own)
    renamed = _match_optimizer(source, stored.shapes, own, found)
    if stored.step >= length.steps:
        raise ValueError(
            f"--from {source}: its checkpoint is of step {stored.step}, and this run is to end at step {length.steps}: "
            "make it longer (--set steps=... or --set epochs=...)"
        )
    notes = [*_of_length(stored.step, old, record), *_of_rates(stored.step, old, length)]
    averages, kept = _has_averages(own), _has_averages(stored.shapes)
    if averages != kept:
        notes.append(
            "moving averages start at the parameters as they are: that run kept none"
            if averages
            else "its moving averages are left behind: this run keeps none (ema_decay)"
        )
    state = _read(stored, like, renamed, averages=averages and kept)
    return Taken(state, stored.step, tuple(found), tuple(notes))


def _read(stored: StoredState, like: TrainState, renamed: dict[str, str], *, averages: bool) -> TrainState:
    names = [renamed.get(name, name) for name in names_of(like)]
    leaves = jax.tree.leaves(like)
    wanted = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
        for name, leaf in zip(names, leaves, strict=True)
        if averages or not name.startswith(".ema")
    }
    values = stored.read(wanted)
    state = jax.tree.unflatten(jax.tree.structure(like), [values.get(name) for name in names])
    if like.ema is not None and not averages:
        state = replace(state, ema=jax.tree.map(jnp.copy, (state.params, state.rest)))
    return state


def _variables(shapes: Shapes) -> tuple[Shapes, Shapes]:
    """Of the model, by their place in it: those that train, and the others."""
    parts = (".params", ".rest")
    return tuple(  # type: ignore[return-value]
        {name.removeprefix(part): shape for name, shape in shapes.items() if name.startswith(part)} for part in parts
    )


def _check_model(source: Any, there: Shapes, here: Shapes) -> None:
    old, new = ({**trained, **others} for trained, others in map(_variables, (there, here)))
    if old == new:
        return
    differing = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    first = differing[0]
    shapes = [f"{one[first][0]}" if first in one else "missing" for one in (old, new)]
    raise ValueError(
        f"--from {source}: it trained another model, or for other classes; the first of {len(differing)} that differ: "
        f"{_dotted(first)}, there {shapes[0]}, here {shapes[1]}. --set weights={source} starts anew from its model"
    )


def _check_frozen(source: Any, there: Shapes, here: Shapes) -> None:
    (old, _), (new, _) = map(_variables, (there, here))
    for names, says in (
        (new.keys() - old.keys(), "was frozen there and trains here"),
        (old.keys() - new.keys(), "trained there and is frozen here"),
    ):
        if names:
            raise ValueError(
                f"--from {source}: {_dotted(min(names))} {says}, with {len(names) - 1} others, so that the optimizer's "
                f"state does not fit: give the same frozen, or start anew from its model, --set weights={source}"
            )


def _match_optimizer(source: Any, there: Shapes, here: Shapes, found: Iterable[str]) -> dict[str, str]:
    """The name there of each array of the optimizer here. Parts without arrays, such as clipping, may come and go."""
    old, new = ([name for name in shapes if name.startswith(".opt_state")] for shapes in (there, here))
    by_part = [sorted((_CHAIN.sub("", name), _places(name), name) for name in names) for names in (old, new)]
    if [entry[0] for entry in by_part[0]] != [entry[0] for entry in by_part[1]]:
        causes = [line for line in found if line.startswith(("optimizer.kind", "optimizer.accumulate"))]
        raise ValueError(
            f"--from {source}: its optimizer keeps another state ({'; '.join(causes) or 'of another kind'}): give the "
            f"same optimizer, or start anew from its model, --set weights={source}"
        )
    return {mine[2]: other[2] for other, mine in zip(*by_part, strict=True)}


def _places(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\[(\d+)\](?=\.)", name)]


def _has_averages(shapes: Shapes) -> bool:
    return any(name.startswith(".ema") for name in shapes)


def _dotted(name: str) -> str:
    return ".".join(re.findall(r"[^\[\]']+", name.removesuffix(".value")))


def _of_length(step: int, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Where a step lies in epochs, which other data or another batch size changes."""
    if "length" not in old or old["length"]["steps_per_epoch"] == new["length"]["steps_per_epoch"]:
        return []
    then, now = (step / record["length"]["steps_per_epoch"] for record in (old, new))
    return [f"step {step} was after {then:.2f} epochs there and is after {now:.2f} here"]


def _of_rates(step: int, old: dict[str, Any], length: Length) -> list[str]:
    """Whether the steps that are done had this run's learning rates; a schedule may depend on the length."""
    if "length" not in old or step == 0:
        return []
    done = np.arange(step)
    try:
        fields = {name: value for name, value in old["config"]["optimizer"].items() if name != "type"}
        fields |= {"milestones": tuple(old["length"]["milestones"]), "lr_scales": (), "betas": tuple(fields["betas"])}
        before = make_schedule(OptimizerConfig(**fields), old["length"]["steps"])
        first = np.broadcast_to(before(done), done.shape)
    except (AttributeError, KeyError, TypeError, ValueError):  # of a version with other fields
        return []
    schedule = make_schedule(length.optimizer, length.steps)
    second = np.broadcast_to(schedule(done), done.shape)
    differing = ~np.isclose(first, second, rtol=1e-6)
    if not differing.any():
        return []
    lengths = f"over {old['length']['steps']} steps there and {length.steps} here"
    return [
        f"{int(differing.sum())} of the {step} steps that are done had other learning rates than this configuration's "
        f"({length.optimizer.schedule}, {lengths}), so this is not the run that {length.steps} steps in one would be; "
        f"the learning rate goes on at {float(schedule(step)):g}, after {float(before(step - 1)):g}"
    ]

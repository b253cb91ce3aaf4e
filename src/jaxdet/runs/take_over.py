"""Starting a run from another run's checkpoint, with another configuration and in another folder.

Parameters, statistics, the optimizer's state, moving averages and the step are taken over. Differences between the runs
are listed; a state that does not fit is an error. The other run's folder is only read.
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

_CHAIN = re.compile(r"\[\d+\](?=\.)")  # an index into the chain of an optimizer's parts
Shapes = dict[str, tuple[tuple[int, ...], str]]


@dataclass(frozen=True)
class Taken:
    """The state taken over from another run.

    state: has the shardings of the new run; step: the number of completed steps.
    differences: between the two runs, one line each; notes: further remarks.
    """

    state: TrainState
    step: int
    differences: tuple[str, ...]
    notes: tuple[str, ...]


def find_checkpoint(source: str | Path) -> Path:
    """The folder of a checkpoint: ``source``, or the last checkpoint of the run in ``source``.

    Raises:
        ValueError: there is none.
    """
    folder = absolute(source)
    if is_checkpoint(folder):
        return folder
    steps = saved_steps(folder / CHECKPOINTS)
    if not steps:
        what = "this run has no checkpoint yet" if (folder / RECORD).is_file() else "this is not the folder of a run"
        raise ValueError(f"--from {source}: {what}; give the folder of a run, or of one of its checkpoints")
    return folder / CHECKPOINTS / str(steps[-1])


def take_over(source: str | Path, like: TrainState, record: dict[str, Any], length: Length) -> Taken:
    """The initial state of a new run, taken from another one.

    Args:
        source: the folder of a run, or of one of its checkpoints.
        like: the new run's own initial state, which gives the structure and placement of the result.
        record: of the new run (`jaxdet.runs.record.make_record`); length: of the new run.

    Raises:
        ValueError: the other run has another model, other frozen parameters or another kind of optimizer, or as many
            steps already.
        CheckpointError: the checkpoint cannot be read.
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
            f"--from {source}: its checkpoint is of step {stored.step}, but this run ends at step {length.steps}: "
            "make it longer (--set steps=... or --set epochs=...)"
        )
    notes = [*_length_notes(stored.step, old, record), *_rate_notes(stored.step, old, length)]
    averages, kept = _has_averages(own), _has_averages(stored.shapes)
    if averages != kept:
        notes.append(
            "moving averages start at the current parameters, as that run has none"
            if averages
            else "its moving averages are dropped, as this run has none (ema_decay)"
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
    """The shapes of the model's trained parameters and of its other variables, by path."""
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
        f"--from {source}: that run trained another model or other classes; the first of {len(differing)} differing "
        f"parameters: {_dotted(first)}, there {shapes[0]}, here {shapes[1]}. --set weights={source} starts a new run "
        "from its model"
    )


def _check_frozen(source: Any, there: Shapes, here: Shapes) -> None:
    (old, _), (new, _) = map(_variables, (there, here))
    for names, change in (
        (new.keys() - old.keys(), "was frozen there and is trained here"),
        (old.keys() - new.keys(), "was trained there and is frozen here"),
    ):
        if names:
            raise ValueError(
                f"--from {source}: {_dotted(min(names))} {change}, and so are {len(names) - 1} others, so that the "
                f"optimizer's state does not fit: give the same frozen, or start a new run with --set weights={source}"
            )


def _match_optimizer(source: Any, there: Shapes, here: Shapes, found: Iterable[str]) -> dict[str, str]:
    """The stored name of each array of the new optimizer. Parts without arrays, such as clipping, may differ."""
    old, new = ([name for name in shapes if name.startswith(".opt_state")] for shapes in (there, here))
    by_part = [sorted((_CHAIN.sub("", name), _indices(name), name) for name in names) for names in (old, new)]
    if [entry[0] for entry in by_part[0]] != [entry[0] for entry in by_part[1]]:
        causes = [line for line in found if line.startswith(("optimizer.kind", "optimizer.accumulate"))]
        raise ValueError(
            f"--from {source}: the state of its optimizer does not fit ({'; '.join(causes) or 'another kind'}): give "
            f"the same optimizer, or start a new run with --set weights={source}"
        )
    return {own[2]: stored[2] for stored, own in zip(*by_part, strict=True)}


def _indices(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\[(\d+)\](?=\.)", name)]


def _has_averages(shapes: Shapes) -> bool:
    return any(name.startswith(".ema") for name in shapes)


def _dotted(name: str) -> str:
    return ".".join(re.findall(r"[^\[\]']+", name.removesuffix(".value")))


def _length_notes(step: int, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """A note if the two runs count epochs differently, because of other data or another batch size."""
    if "length" not in old or old["length"]["steps_per_epoch"] == new["length"]["steps_per_epoch"]:
        return []
    then, now = (step / record["length"]["steps_per_epoch"] for record in (old, new))
    return [f"step {step} is after {then:.2f} epochs of that run and {now:.2f} epochs of this run"]


def _rate_notes(step: int, old: dict[str, Any], length: Length) -> list[str]:
    """A note if the completed steps had other learning rates than in this run. Schedules may depend on the length."""
    if "length" not in old or step == 0:
        return []
    done = np.arange(step)
    try:
        fields = {name: value for name, value in old["config"]["optimizer"].items() if name != "type"}
        fields |= {"milestones": tuple(old["length"]["milestones"]), "lr_scales": (), "betas": tuple(fields["betas"])}
        before = make_schedule(OptimizerConfig(**fields), old["length"]["steps"])
        first = np.broadcast_to(before(done), done.shape)
    except (AttributeError, KeyError, TypeError, ValueError):  # a record of a version with other fields
        return []
    schedule = make_schedule(length.optimizer, length.steps)
    second = np.broadcast_to(schedule(done), done.shape)
    differing = ~np.isclose(first, second, rtol=1e-6)
    if not differing.any():
        return []
    lengths = f"over {old['length']['steps']} steps there and {length.steps} here"
    return [
        f"{int(differing.sum())} of the {step} completed steps had other learning rates than this configuration's "
        f"({length.optimizer.schedule}, {lengths}), so the result differs from an uninterrupted run of {length.steps} "
        f"steps; the learning rate continues at {float(schedule(step)):g}, after {float(before(step - 1)):g}"
    ]

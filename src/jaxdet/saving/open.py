"""Opening models by path: saved models, training runs and checkpoints."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import nnx

from jaxdet.backbones import Backbone
from jaxdet.base import Model
from jaxdet.paths import absolute, to_path
from jaxdet.saving.description import Description, from_values
from jaxdet.saving.model import abstract_of, fill, is_model, load, read_description
from jaxdet.saving.run_folder import METRICS_FILE, RECORD, read_rows
from jaxdet.saving.stored_state import CheckpointError, StoredState, is_checkpoint, saved_steps

CHECKPOINTS, BEST, LAST = "checkpoints", "best", "model"  # in a run's folder
DESCRIPTION = "model"  # key in a checkpoint's record
_METRICS = ("val/AP", "val/top1")  # metrics that select the best evaluation of a run


class Stored(NamedTuple):
    """A stored model. taken: a message that says which model was opened, if the path has several; otherwise None."""

    model: Model
    taken: str | None


class _Place(NamedTuple):
    """The location of a stored model.

    folder: the folder of a model, or of a checkpoint.
    run: the folder of the checkpoint's run; None for a model.
    taken: see `Stored`.
    """

    folder: Path
    run: Path | None
    taken: str | None


def open_stored(path: str | os.PathLike[str], *, backbone: Backbone | None = None) -> Stored:
    """Opens the model of a path.

    Args:
        path: the folder of a model, of a training run (its best model, else its last, else that of its last
            checkpoint), of its ``checkpoints``, or of a single checkpoint (``run/checkpoints/500``). May be a URL.
        backbone: a backbone of the same shapes, for a detector that was built on a custom one.

    Raises:
        ValueError: there is no model, or one that this version cannot read.
        CheckpointError: a checkpoint cannot be read.
    """
    place = _find(path)
    if place.run is None:
        return Stored(load(place.folder, backbone=backbone), place.taken)
    return _from_checkpoint(StoredState(place.folder), place, backbone)


def describe_stored(path: str | os.PathLike[str]) -> Description:
    """The description of the model that `open_stored` would open, without reading arrays. Raises the same errors."""
    place = _find(path)
    if place.run is None:
        return read_description(place.folder)
    return _description(StoredState(place.folder), place.run)


def holds_model(path: str | os.PathLike[str]) -> bool:
    """Whether `open_stored` accepts a path: the folder of a model, a run, a checkpoint, or of checkpoints."""
    folder = absolute(path)
    return is_model(folder) or is_checkpoint(folder) or is_run(folder) or bool(saved_steps(folder))


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a training run."""
    return (folder / RECORD).is_file() or (folder / CHECKPOINTS).is_dir()


def _best(folder: Path) -> str:
    """Step and metric of the best evaluation, as text; empty if the metrics file has none."""
    found = [(row[name], row["step"]) for row in read_rows(folder / METRICS_FILE) for name in _METRICS if name in row]
    if not found:
        return ""
    value, step = max(found, key=lambda one: (one[0], -one[1]))  # of equal metrics, the run keeps the first
    return f", after step {step} ({value:.3f})"


def _find(path: str | os.PathLike[str]) -> _Place:
    folder = absolute(path)  # a relative path may lack the parents that are used below
    if is_model(folder):
        return _Place(folder, None, None)
    if is_checkpoint(folder):
        return _Place(folder, folder.parent.parent, None)
    unfinished = f"{path} has no finished model: using the checkpoint of step "
    if not is_run(folder):
        steps = saved_steps(folder)
        if steps:
            return _Place(folder / str(steps[-1]), folder.parent, f"{unfinished}{steps[-1]}")
        return _Place(to_path(path), None, None)  # opening it raises an error
    for name, what in ((BEST, f"the best evaluation{_best(folder)}"), (LAST, "its last step")):
        if is_model(folder / name):
            return _Place(folder / name, None, f"{path} is a run: using {name}/, the model of {what}")
    steps = saved_steps(folder / CHECKPOINTS)
    if not steps:
        raise ValueError(f"{path} is a run without a model or checkpoint yet: wait until it has one")
    return _Place(folder / CHECKPOINTS / str(steps[-1]), folder, f"{unfinished}{steps[-1]}")


def _from_checkpoint(stored: StoredState, place: _Place, backbone: Backbone | None) -> Stored:
    assert place.run is not None
    description = _description(stored, place.run)
    model = abstract_of(description, backbone, f"{stored.place}: its record")
    # The moving averages if the run has them, as in its evaluations.
    parts = [".ema[0]", ".ema[1]"] if any(name.startswith(".ema") for name in stored.shapes) else [".params", ".rest"]
    where = {}  # from paths of the model to names in the checkpoint
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    wanted = {}
    for keys, leaf in jax.tree_util.tree_flatten_with_path(nnx.state(model))[0]:
        dotted = ".".join(str(part) for key in keys if (part := _key_of(key)) is not None)
        names = [part + jax.tree_util.keystr(keys) for part in parts]
        name = next((name for name in names if name in stored.shapes), names[0])
        if stored.shapes.get(name, ((), ""))[0] != leaf.shape:
            raise ValueError(f"{stored.place}: its arrays do not fit its model; the first that differs is {dotted}")
        where[dotted] = name
        wanted[name] = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device)
    values = stored.read(wanted)
    model = fill(model, {dotted: values[name] for dotted, name in where.items()})
    model.origin = description.origin
    averages = ", the moving averages" if parts[0].startswith(".ema") else ""
    return Stored(model, None if place.taken is None else f"{place.taken}{averages}")


def _key_of(key: Any) -> Any:
    """A key or index of a path in a state; None for the attribute of a variable that has its array."""
    return getattr(key, "key", getattr(key, "idx", None))


def _description(stored: StoredState, run: Path) -> Description:
    values = stored.record.get(DESCRIPTION)
    if values is None:  # a checkpoint of an earlier version
        models = [run / name for name in (BEST, LAST) if is_model(run / name)]
        if not models:
            raise ValueError(
                f"{stored.place} was written by an earlier version and does not describe its model: `jaxdet train` "
                "with the same configuration and folder resumes from it, and writes a checkpoint that does"
            )
        return read_description(models[0])
    try:
        return from_values(values)
    except ValueError as error:
        raise CheckpointError(f"{stored.place}: the description of its model cannot be read ({error})") from None

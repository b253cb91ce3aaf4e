"""Saving and loading of models.

A model's folder contains ``arrays/`` (Orbax) and ``model.json`` (configuration, numerics, class names, origin).
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx

from jaxdet.backbones import Backbone
from jaxdet.base import Model
from jaxdet.config import to_dict
from jaxdet.data.image_files import is_system_name
from jaxdet.models.fit import check_fit, unlike
from jaxdet.models.registry import abstract
from jaxdet.nn.parameters import arrays as arrays
from jaxdet.nn.parameters import fill as fill
from jaxdet.nn.parameters import flatten as flatten
from jaxdet.nn.parameters import shapes
from jaxdet.parallel import many, process_index
from jaxdet.paths import absolute, to_path
from jaxdet.saving.description import Description, parse
from jaxdet.saving.disk import put_in_place, reason, remove

_DESCRIPTION, _ARRAYS = "model.json", "arrays"


def fingerprint(model: Model) -> str:
    """A short hash of a model's configuration, numerics, parameters and statistics."""
    digest = hashlib.sha256(json.dumps([to_dict(model.config), to_dict(model.numerics)]).encode())
    for name, array in sorted(arrays(model).items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def is_model(path: str | os.PathLike[str]) -> bool:
    """Whether a path is the folder of a model: it has a description and arrays."""
    folder = to_path(path)
    return (folder / _DESCRIPTION).is_file() and (folder / _ARRAYS).is_dir()


def save(model: Model, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Saves a model to a folder, atomically.

    If there are several processes, exactly one must call this; each has all parameters.

    Args:
        path: the folder; may be a URL.
        overwrite: replace an existing model, after the new one is complete. Other folders are never replaced.

    Raises:
        ValueError: ``path`` exists, or the model's parameters do not fit its configuration.
        OSError: the model cannot be written; an existing one is kept.
    """
    check_fit(model)
    target = absolute(path)
    check_free(path, overwrite=overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.with_name(f".{target.name}-{os.getpid()}")
    try:
        remove(staging)
        staging.mkdir()
        with _checkpointer() as checkpointer:
            checkpointer.save(staging / _ARRAYS, {name: np.asarray(value) for name, value in arrays(model).items()})
        (staging / _DESCRIPTION).write_text(Description.of(model).json())
        put_in_place(staging, target)
    except BaseException as error:
        remove(staging)
        if isinstance(error, Exception):  # Orbax raises many types
            raise OSError(f"{path}: the model could not be written ({reason(error)}); nothing was changed") from error
        raise


def check_free(path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Checks that `save` may write to ``path``.

    Raises:
        ValueError: there is something other than a model, or a model and ``overwrite`` is False.
    """
    target = absolute(path)
    if not target.exists():
        return
    entries = None
    if target.is_dir():
        # Files of the system, such as .DS_Store or .nfs, must not stop a training run.
        found = (entry for entry in target.iterdir() if not (is_system_name(entry.name) and entry.is_file()))
        entries = {entry.name for entry in found}
    if entries == set():
        return
    if entries is not None and _DESCRIPTION in entries:
        try:
            parse((target / _DESCRIPTION).read_bytes())
        except (OSError, ValueError):
            entries = None
    if entries is None or _DESCRIPTION not in entries:
        raise ValueError(f"{path} exists and is not a model: remove it, or give another path")
    others = sorted(entries - {_DESCRIPTION, _ARRAYS})
    if others:
        raise ValueError(f"{path} has other files beside its model, {', '.join(others[:5])}: give another path")
    if not overwrite:
        raise ValueError(f"{path} already has a model: overwrite=True (--overwrite) replaces it")


def read_description(path: str | os.PathLike[str]) -> Description:
    """Reads the description of the model in a folder.

    Raises:
        ValueError: ``path`` is not a model, or one that this version cannot read.
    """
    try:
        return parse((absolute(path) / _DESCRIPTION).read_bytes())
    except OSError:
        why = "it has no model.json"
    except ValueError as error:
        why = f"its model.json cannot be read ({error})"
    raise ValueError(f"{path} is not a jaxdet model: {why}. Write one with jaxdet.save or jaxdet convert")


def load(path: str | os.PathLike[str], *, backbone: Backbone | None = None) -> Model:
    """Loads a model that was written by `save` or ``jaxdet convert``. Its name and options are not needed.

    Args:
        backbone: a backbone of the same shapes, for a detector that was built on a custom one.

    Raises:
        ValueError: ``path`` is not a model, or one that this version cannot read, or its arrays do not fit its
            description.
    """
    described, folder = read_description(path), absolute(path)
    model = abstract_of(described, backbone, f"{path}: its model.json")
    wanted = {
        name: jax.ShapeDtypeStruct(variable.shape, variable.dtype, sharding=_first_device())
        for name, variable in flatten(nnx.state(model)).items()
    }
    try:
        with _checkpointer() as checkpointer:
            found = _stored_shapes(checkpointer, folder / _ARRAYS)
            difference = unlike(found, shapes(model), of="its arrays", by="its model.json")
            values = None if difference else checkpointer.restore(folder / _ARRAYS, wanted)
    except Exception as error:  # Orbax raises many types for damaged checkpoints
        raise ValueError(f"{path}: its arrays cannot be read: {reason(error)}. Write it again") from error
    if values is None:
        raise ValueError(f"{path}: its arrays and its model.json are of different models: {difference}. Write it again")
    model = fill(model, values)
    model.origin = described.origin
    return model


def abstract_of(described: Description, backbone: Backbone | None, where: str) -> Model:
    """The abstract model of a description.

    Args:
        backbone: see `load`; where: the source of the description, for the error.

    Raises:
        ValueError: the model cannot be built.
    """
    try:
        return abstract(described.config, numerics=described.numerics, backbone=backbone)
    except Exception as error:  # of a configuration with invalid numbers
        raise ValueError(f"{where} describes a model that cannot be built: {reason(error)}") from error


def _stored_shapes(checkpointer: ocp.StandardCheckpointer, folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a checkpoint's arrays by name, without reading the arrays."""
    if not folder.is_dir():
        raise FileNotFoundError("they are missing")
    stored: Any = checkpointer.metadata(folder)
    if stored.item_metadata is None:
        raise ValueError("their list is missing")
    return {name: tuple(entry.shape) for name, entry in stored.item_metadata.items()}


def _checkpointer() -> ocp.StandardCheckpointer:
    """A checkpointer of this process, which does not wait for other processes."""
    if not many():
        return ocp.StandardCheckpointer()
    own = process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process{own}"
    )
    return ocp.StandardCheckpointer(multiprocessing_options=options)


def _first_device() -> jax.sharding.Sharding:
    return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

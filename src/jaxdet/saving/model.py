"""Models on disk: an Orbax checkpoint with all that is needed to open it again.

A model's folder holds ``arrays/`` (Orbax) and ``model.json`` (configuration, precision, class names, origin).
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
    """A short hash of a model's configuration, precision, parameters and statistics."""
    digest = hashlib.sha256(json.dumps([to_dict(model.config), to_dict(model.numerics)]).encode())
    for name, array in sorted(arrays(model).items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def is_model(path: str | os.PathLike[str]) -> bool:
    """Whether there is a folder that `save` wrote: a description and arrays."""
    folder = to_path(path)
    return (folder / _DESCRIPTION).is_file() and (folder / _ARRAYS).is_dir()


def save(model: Model, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a model to a folder, which appears whole or not at all.

    Of several processes one has to, and no more: every one holds all parameters.

    Args:
        path: of the folder; it may be a URL.
        overwrite: replace a model that is there, once the new one is complete. Nothing else is ever replaced.

    Raises:
        ValueError: there is something at ``path``, or the model's parameters are not those of its configuration.
        OSError: it cannot be written; what was there stays.
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
        if isinstance(error, Exception):  # Orbax raises a dozen kinds
            raise OSError(
                f"{path}: the model could not be written ({reason(error)}); nothing there has changed"
            ) from error
        raise


def check_free(path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """What `save` refuses because of what is at ``path``.

    Raises:
        ValueError: something there would be lost, or ``overwrite`` is not given and there is a model.
    """
    target = absolute(path)
    if not target.exists():
        return
    entries = None
    if target.is_dir():
        # A .DS_Store or .nfs file that a desktop or a disk left there must not end a training run.
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
        raise ValueError(f"{path} is there and is not a model: remove it, or choose another place")
    others = sorted(entries - {_DESCRIPTION, _ARRAYS})
    if others:
        raise ValueError(f"{path} holds a model and {', '.join(others[:5])} beside it: choose another place")
    if not overwrite:
        raise ValueError(f"{path} holds a model already: overwrite=True (--overwrite) replaces it")


def read_description(path: str | os.PathLike[str]) -> Description:
    """What the folder of a model says of it, without its arrays.

    Raises:
        ValueError: ``path`` holds no model, or one that this version cannot read.
    """
    try:
        return parse((absolute(path) / _DESCRIPTION).read_bytes())
    except OSError:
        why = "it has no model.json"
    except ValueError as error:
        why = f"its model.json cannot be read ({error})"
    raise ValueError(f"{path} is not a jaxdet model: {why}. Write one with jaxdet.save or jaxdet convert")


def load(path: str | os.PathLike[str], *, backbone: Backbone | None = None) -> Model:
    """Open what `save` or ``jaxdet convert`` wrote; neither the model's name nor its options need to be known.

    Args:
        backbone: of the same shapes, where the detector was built on a module of the caller's own.

    Raises:
        ValueError: ``path`` holds no model, one that this version cannot read, or one whose arrays are not those that
            its description asks for.
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
            told = unlike(found, shapes(model), of="its arrays", by="its model.json")
            values = None if told else checkpointer.restore(folder / _ARRAYS, wanted)
    except Exception as error:  # Orbax raises a dozen kinds for a damaged checkpoint
        raise ValueError(f"{path}: its arrays cannot be read: {reason(error)}. Write it again") from error
    if values is None:
        raise ValueError(f"{path}: its arrays and its model.json are of different models: {told}. Write it again")
    model = fill(model, values)
    model.origin = described.origin
    return model


def abstract_of(described: Description, backbone: Backbone | None, where: str) -> Model:
    """The model of a description, without arrays.

    Args:
        backbone: see `load`; where: what holds the description, for the error.

    Raises:
        ValueError: no such model can be built.
    """
    try:
        return abstract(described.config, numerics=described.numerics, backbone=backbone)
    except Exception as error:  # of numbers that no model can be built from
        raise ValueError(f"{where} describes no model that can be built: {reason(error)}") from error


def _stored_shapes(checkpointer: ocp.StandardCheckpointer, folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a checkpoint's arrays by their names. None of them is read."""
    if not folder.is_dir():
        raise FileNotFoundError("they are missing")
    stored: Any = checkpointer.metadata(folder)
    if stored.item_metadata is None:
        raise ValueError("their list is missing")
    return {name: tuple(entry.shape) for name, entry in stored.item_metadata.items()}


def _checkpointer() -> ocp.StandardCheckpointer:
    """Of this process alone, which waits for no other."""
    if not many():
        return ocp.StandardCheckpointer()
    own = process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process{own}"
    )
    return ocp.StandardCheckpointer(multiprocessing_options=options)


def _first_device() -> jax.sharding.Sharding:
    return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

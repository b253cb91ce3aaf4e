"""Models on disk: an Orbax checkpoint with all that is needed to open it again.

A model's folder holds ``arrays/`` (Orbax) and ``model.json`` (configuration, precision, class names, origin).
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx

from jaxdet.backbones import Backbone
from jaxdet.config import from_dict, to_dict
from jaxdet.detectors.presets import CONFIG_TYPES, Model, abstract, build
from jaxdet.nn import Numerics
from jaxdet.parallel import many, process_index
from jaxdet.paths import is_remote, to_path
from jaxdet.runs.storage import put_in_place, reason, remove

AnyModel = TypeVar("AnyModel", bound=nnx.Module)

FORMAT = 1
_DESCRIPTION, _ARRAYS = "model.json", "arrays"


def flatten(state: nnx.State) -> dict[str, Any]:
    """``{"backbone.conv1.conv.kernel": variable, ...}`` of a module's state."""
    return {".".join(str(part) for part in path): variable for path, variable in nnx.to_flat_state(state)}


def arrays(model: nnx.Module) -> dict[str, jax.Array]:
    """All parameters and statistics of a model by their dotted paths."""
    return {path: variable[...] for path, variable in flatten(nnx.state(model)).items()}


def fill(model: AnyModel, values: dict[str, Any]) -> AnyModel:
    """An abstract model with every parameter and statistic given by its dotted path."""
    graphdef, state = nnx.split(model)
    filled = [
        (path, variable.replace(jnp.asarray(values[".".join(str(part) for part in path)])))
        for path, variable in nnx.to_flat_state(state)
    ]
    return nnx.merge(graphdef, nnx.from_flat_state(filled))


def fingerprint(model: Model) -> str:
    """A short hash of a model's configuration, precision, parameters and statistics."""
    digest = hashlib.sha256(json.dumps([to_dict(model.config), to_dict(model.numerics)]).encode())
    for name, array in sorted(arrays(model).items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def save(model: Model, path: str | os.PathLike[str]) -> None:
    """Write a model; an existing one at ``path`` is replaced once the new one is complete.

    Of several processes one has to, and no more: every one holds all parameters.

    Args:
        path: of a folder; it may be a URL.

    Raises:
        ValueError: there is something at ``path`` that is not a model.
        OSError: it cannot be written; what was there stays.
    """
    target = _place(path)
    if target.exists() and not (target / _DESCRIPTION).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{path} is there and is not a model: remove it, or choose another place")
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.with_name(f".{target.name}-{os.getpid()}")
    try:
        remove(staging)
        staging.mkdir()
        with _checkpointer() as checkpointer:
            checkpointer.save(staging / _ARRAYS, {name: np.asarray(value) for name, value in arrays(model).items()})
        (staging / _DESCRIPTION).write_text(json.dumps(describe(model), indent=1))
        put_in_place(staging, target)
    except BaseException as error:
        remove(staging)
        if isinstance(error, Exception):  # Orbax raises a dozen kinds
            raise OSError(
                f"{path}: the model could not be written ({reason(error)}); nothing there has changed"
            ) from error
        raise


def load(path: str | os.PathLike[str], *, backbone: Backbone | None = None) -> Model:
    """Open what `save` or ``jaxdet convert`` wrote; neither the model's name nor its options need to be known.

    Args:
        backbone: of the same shapes, where the detector was built on a module of the caller's own.

    Raises:
        ValueError: ``path`` holds no model, or one that this version cannot read.
    """
    folder = _place(path)
    try:
        model = described(read_description(folder), backbone=backbone)
    except (OSError, KeyError, ValueError, TypeError) as error:
        why = "it has no model.json" if isinstance(error, OSError) else f"its model.json does not read ({error})"
        raise ValueError(f"{path} is not a jaxdet model: {why}. Write one with jaxdet.save or jaxdet convert") from None
    wanted = {
        name: jax.ShapeDtypeStruct(variable.shape, variable.dtype, sharding=_first_device())
        for name, variable in flatten(nnx.state(model)).items()
    }
    try:
        with _checkpointer() as checkpointer:
            values = checkpointer.restore(folder / _ARRAYS, wanted)
    except Exception as error:  # Orbax raises a dozen kinds for a damaged checkpoint
        raise ValueError(f"{path}: its arrays do not read: {reason(error)}. Write it again") from error
    return fill(model, values)


def is_model(folder: Path) -> bool:
    """Whether `save` wrote this folder."""
    return (folder / _DESCRIPTION).is_file()


def read_description(folder: Path) -> dict[str, Any]:
    """What `describe` told of the model in a folder."""
    return json.loads((folder / _DESCRIPTION).read_text())


def describe(model: Model) -> dict[str, Any]:
    """What is needed to build the model again, but for its arrays, as JSON values."""
    return {
        "format": FORMAT,
        "config": to_dict(model.config),
        "numerics": to_dict(model.numerics),
        "origin": list(getattr(model, "origin", ())),
    }


def described(description: dict[str, Any], *, backbone: Backbone | None = None) -> Model:
    """The abstract model that `describe` told of.

    Raises:
        ValueError, KeyError, TypeError: it is of another format, or damaged.
    """
    if description["format"] != FORMAT:
        raise ValueError(f"format {description['format']}")
    config = from_dict(description["config"], CONFIG_TYPES)
    numerics: Numerics = from_dict(description["numerics"], CONFIG_TYPES)
    if backbone is None:
        model = abstract(config, numerics=numerics)
    else:
        model = nnx.eval_shape(lambda: build(config, backbone=backbone, numerics=numerics, rngs=nnx.Rngs(0)))
    model.origin = tuple(description["origin"])
    return model


def _place(path: str | os.PathLike[str]) -> Path:
    return to_path(path) if is_remote(path) else Path(path).absolute()


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

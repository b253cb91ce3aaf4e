"""Models on disk: an Orbax checkpoint with all that is needed to open it again.

A model's folder holds ``arrays/`` (Orbax) and ``model.json`` (configuration, precision, class names, origin).
"""

from __future__ import annotations

import hashlib
import json
import os
import reprlib
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx

from jaxdet.backbones import Backbone
from jaxdet.config import from_dict, to_dict
from jaxdet.detectors.presets import CONFIG_TYPES, MODEL_CONFIGS, Model, ModelConfig, abstract, build
from jaxdet.nn import Numerics
from jaxdet.parallel import many, process_index
from jaxdet.paths import is_remote, parse_json, to_path
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
        description = {
            "format": FORMAT,
            "config": to_dict(model.config),
            "numerics": to_dict(model.numerics),
            "origin": list(getattr(model, "origin", ())),
        }
        (staging / _DESCRIPTION).write_text(json.dumps(description, indent=1))
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
    config, numerics, origin = read_description(path)
    try:
        model = _abstract(config, numerics, backbone)
    except Exception as error:  # each field is of its type, and together they are no model
        raise ValueError(f"{path}: no model can be made of its {_DESCRIPTION}: {reason(error)}") from error
    wanted = {
        name: jax.ShapeDtypeStruct(variable.shape, variable.dtype, sharding=_first_device())
        for name, variable in flatten(nnx.state(model)).items()
    }
    try:
        with _checkpointer() as checkpointer:
            values = checkpointer.restore(folder / _ARRAYS, wanted)
    except Exception as error:  # Orbax raises a dozen kinds for a damaged checkpoint
        raise ValueError(f"{path}: its arrays do not read: {reason(error)}. Write it again") from error
    model = fill(model, values)
    model.origin = origin
    return model


def read_description(path: str | os.PathLike[str]) -> tuple[ModelConfig, Numerics, tuple[str, ...]]:
    """The configuration, the precision and the origin of a model's weights, from its ``model.json``.

    Raises:
        ValueError: ``path`` holds no model, or its ``model.json`` does not read.
    """
    try:
        description = parse_json((_place(path) / _DESCRIPTION).read_bytes())
        if description["format"] != FORMAT:
            raise ValueError(f"format {reprlib.repr(description['format'])}, and this version reads {FORMAT}")
        config = from_dict(description["config"], CONFIG_TYPES)
        numerics = from_dict(description["numerics"], CONFIG_TYPES)
        origin = description["origin"]
        for name, value, kinds in (("config", config, MODEL_CONFIGS), ("numerics", numerics, (Numerics,))):
            if not isinstance(value, kinds):
                raise ValueError(f"its {name} is a {type(value).__name__}")
        if not isinstance(origin, list) or not all(isinstance(name, str) for name in origin):
            raise ValueError(f"its origin is {reprlib.repr(origin)}, no list of names")
    except (OSError, KeyError, ValueError, TypeError, RecursionError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        why = (
            f"it has no {_DESCRIPTION}"
            if isinstance(error, OSError)
            else f"its {_DESCRIPTION} does not read ({reason})"
        )
        raise ValueError(f"{path} is not a jaxdet model: {why}. Write one with jaxdet.save or jaxdet convert") from None
    return config, numerics, tuple(origin)


def _abstract(config: Any, numerics: Numerics, backbone: Backbone | None) -> Model:
    if backbone is None:
        return abstract(config, numerics=numerics)
    return nnx.eval_shape(lambda: build(config, backbone=backbone, numerics=numerics, rngs=nnx.Rngs(0)))


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

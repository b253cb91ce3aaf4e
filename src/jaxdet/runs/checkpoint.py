"""Models on disk: an Orbax checkpoint with all that is needed to open it again.

A model's folder holds ``arrays/`` (Orbax) and ``model.json`` (configuration, precision, class names, origin).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from flax import nnx

from jaxdet.backbones import Backbone
from jaxdet.config import from_dict, to_dict
from jaxdet.detectors import FasterRCNN, FasterRCNNConfig
from jaxdet.detectors.presets import CONFIG_TYPES, Model, abstract, build
from jaxdet.nn import Numerics

AnyModel = TypeVar("AnyModel", bound=nnx.Module)

FORMAT = 1
_BOX_MEANING = ("representation_size", "conv_layers", "norm", "output_size", "sampling_ratio", "reg_weights")
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


def save(model: Model, path: str | os.PathLike[str]) -> None:
    """Write a model; an existing one at ``path`` is replaced once the new one is complete.

    Raises:
        ValueError: there is something at ``path`` that is not a model.
    """
    target = Path(path).absolute()
    if target.exists() and not (target / _DESCRIPTION).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{path} is there and is not a model: remove it, or choose another place")
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(staging / _ARRAYS, arrays(model))
        description = {
            "format": FORMAT,
            "config": to_dict(model.config),
            "numerics": to_dict(model.numerics),
            "origin": list(getattr(model, "origin", ())),
        }
        (staging / _DESCRIPTION).write_text(json.dumps(description, indent=1))
        staging.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        staging.rename(target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def load(path: str | os.PathLike[str], *, backbone: Backbone | None = None) -> Model:
    """Open what `save` or ``jaxdet convert`` wrote; neither the model's name nor its options need to be known.

    Args:
        backbone: of the same shapes, where the detector was built on a module of the caller's own.

    Raises:
        ValueError: ``path`` holds no model, or one that this version cannot read.
    """
    folder = Path(path).absolute()
    try:
        description = json.loads((folder / _DESCRIPTION).read_text())
        if description["format"] != FORMAT:
            raise ValueError(f"format {description['format']}")
        config = from_dict(description["config"], CONFIG_TYPES)
        numerics = from_dict(description["numerics"], CONFIG_TYPES)
    except (OSError, KeyError, ValueError, TypeError) as error:
        reason = "it has no model.json" if isinstance(error, OSError) else f"its model.json does not read ({error})"
        raise ValueError(
            f"{path} is not a jaxdet model: {reason}. Write one with jaxdet.save or jaxdet convert"
        ) from None
    model = _abstract(config, numerics, backbone)
    wanted = {
        name: jax.ShapeDtypeStruct(variable.shape, variable.dtype, sharding=_first_device())
        for name, variable in flatten(nnx.state(model)).items()
    }
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            values = checkpointer.restore(folder / _ARRAYS, wanted)
    except Exception as error:  # Orbax raises a dozen kinds for a damaged checkpoint
        raise ValueError(f"{path}: its arrays do not read: {str(error).splitlines()[0]}. Write it again") from error
    model = fill(model, values)
    model.origin = tuple(description["origin"])
    return model


def _abstract(config: Any, numerics: Numerics, backbone: Backbone | None) -> Model:
    if backbone is None:
        return abstract(config, numerics=numerics)
    return nnx.eval_shape(lambda: build(config, backbone=backbone, numerics=numerics, rngs=nnx.Rngs(0)))


def _first_device() -> jax.sharding.Sharding:
    return jax.sharding.SingleDeviceSharding(jax.devices()[0])


def start_from(
    config: FasterRCNNConfig, path: str | os.PathLike[str], *, numerics: Numerics = Numerics()
) -> FasterRCNN:
    """A detector with the parameters of a stored one; a predictor for another number of classes starts anew.

    What gives the stored parameters their meaning (body, pyramid, anchors, box coding, normalisation) comes with them;
    sizes, thresholds, sampling and classes are ``config``'s.

    Raises:
        ValueError: the stored model is no detector, or anything but the predictor differs in shape; all are listed.
    """
    stored = load(path)
    if not isinstance(stored, FasterRCNN):
        raise ValueError(f"{path} holds a {type(stored).__name__}, not a detector: use backbone_weights for its body")
    old = stored.config
    config = replace(
        config,
        backbone=old.backbone,
        fpn=old.fpn,
        rpn=replace(config.rpn, anchor_generator=old.rpn.anchor_generator, conv_depth=old.rpn.conv_depth),
        box=replace(config.box, **{name: getattr(old.box, name) for name in _BOX_MEANING}),
        transform=replace(config.transform, image_mean=old.transform.image_mean, image_std=old.transform.image_std),
    )
    model = build(config, numerics=numerics)
    values, own = arrays(stored), arrays(model)
    differing = {name for name in values if name in own and values[name].shape != own[name].shape}
    wrong = sorted((values.keys() ^ own.keys()) | {name for name in differing if not name.startswith("box_predictor.")})
    if wrong:
        raise ValueError(f"{path} holds another model; these differ: {', '.join(wrong)}")
    return fill(model, own | {name: value for name, value in values.items() if name not in differing})

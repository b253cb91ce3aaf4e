"""Filling a detector's body from a classifier's weights, or its whole backbone from another detector's."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdet.backbones import BackboneConfig
from jaxdet.base import Model
from jaxdet.models import Detector, DetectorConfig, Task, abstract
from jaxdet.models.options import override_model
from jaxdet.paths import to_path
from jaxdet.runs.follow import follow_classifier
from jaxdet.saving.model import arrays, fill
from jaxdet.saving.open import open_stored
from jaxdet_convert.apply import ConversionError
from jaxdet_convert.load import convert_weights
from jaxdet_convert.read.safetensors_file import is_sharded
from jaxdet_convert.sources.backbones import backbone_of
from jaxdet_convert.sources.registry import model_table, source_of

_BODY, _CLASSIFIER, _COUNTER = "backbone.", "fc.", ".count"


def load_backbone(
    model: Detector,
    weights: str | os.PathLike[str] | Mapping[str, Any],
    *,
    container: str | None = None,
    keep: Mapping[str, Any] | None = None,
) -> tuple[Detector, tuple[str, ...]]:
    """The detector with its body taken from a classifier, and the names of the classifier's ``fc`` that are dropped.

    Weights of a detector's backbone alone (a HeadHunter's, or RetinaFace's, whose heads are dropped) fill the pyramid
    and the context modules, too, which have to be there.

    Strict otherwise: the whole body is filled, and nothing else is left over. The norms stay of the detector's kind:
    counters of batches are left out where it is frozen, and start at 0 where the weights have none. What belongs to the
    weights follows them, and the result's configuration says it (`jaxdet.runs.follow.follow_classifier`): a
    Darknet-53's slope and normalisation of images, and of a jaxdet folder all that its configuration says about the
    body and the eps of its norms.

    Args:
        model: as `jaxdet.create_model` makes it; it is not changed.
        weights: whatever `load_torch` reads (and tells on the log "jaxdet"), or the folder of a classifier that
            ``jaxdet convert`` or `jaxdet.save` wrote.
        container: the entry of a checkpoint that holds the state dict, as `load_torch` takes it.
        keep: options of the model, with their values, that stay as they are whatever the weights say.

    Raises:
        ValueError: the weights do not read, are no classifier's, or of another than the detector's body.
        ConversionError: with all that does not fit.
    """
    config = model.config
    if config.task is not Task.DETECTION or config.needs_backbone:
        raise ValueError("a classifier's weights go into a detector on a named backbone, as create_model makes it")
    bare: tuple[str, ...] | None = None
    if not isinstance(weights, Mapping) and to_path(weights).is_dir() and not is_sharded(weights):
        stored = open_stored(weights)
        if stored.taken is not None:
            logging.getLogger("jaxdet").warning(stored.taken)
        classifier, described = stored.model, True
    else:
        conversion = convert_weights(weights, container=container)
        classifier, described = conversion.model, conversion.described is not None
        bare = conversion.dropped if conversion.bare else None
    where = "these weights" if isinstance(weights, Mapping) else os.fspath(weights)
    theirs: Any = classifier.config
    if bare is not None:
        theirs = theirs.backbone
    elif theirs.task is Task.DETECTION:
        raise ValueError(f"{where} are of a whole detector; give a classifier's, or start from that detector")
    _check_kind(config.backbone_config, theirs, where)
    told = override_model(follow_classifier(config, theirs, described=described), keep or {})
    if bare is not None:
        return _with_backbone(model, told, classifier), bare

    found = arrays(classifier)
    table = model_table(classifier.config, getattr(classifier, "origin", ()))
    names = [name for path in found if path.startswith(_CLASSIFIER) for _, name in table.inverse(path)]
    current = arrays(model)
    target = {path: array for path, array in current.items() if path.startswith(_BODY)}
    body = _fitted({_BODY + path: array for path, array in found.items() if not path.startswith(_CLASSIFIER)}, target)
    filled = fill(abstract(told, numerics=model.numerics), current | body)
    filled.origin = getattr(model, "origin", ())
    return filled, tuple(sorted(names))


def _with_backbone(model: Detector, config: DetectorConfig, other: Model) -> Detector:
    """The detector, under a configuration, with the body, the pyramid and the context modules of another one."""
    found, target = (
        {path: array for path, array in arrays(whole).items() if path.startswith(source_of(whole.config).trunk)}
        for whole in (other, model)
    )
    filled = fill(abstract(config, numerics=model.numerics), arrays(model) | _fitted(found, target))
    filled.origin = getattr(model, "origin", ())
    return filled


def _check_kind(body: BackboneConfig, classifier: BackboneConfig, where: str) -> None:
    ours, theirs = _kind(body), _kind(classifier)
    if ours != theirs:
        raise ValueError(f"{where} are of {theirs}, and the detector's body is {ours}: give weights of that")


def _kind(config: BackboneConfig) -> str:
    options = ", ".join(f"{name}={getattr(config, name)}" for name in backbone_of(config).shaping)
    return type(config).__name__.removesuffix("Config") + (f" ({options})" if options else "")


def _fitted(found: dict[str, jax.Array], target: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """The body's arrays under the detector's norms; strict but for the counters of batches."""
    found = {path: array for path, array in found.items() if path in target or not path.endswith(_COUNTER)}
    found |= {path: jnp.zeros_like(target[path]) for path in target.keys() - found.keys() if path.endswith(_COUNTER)}
    problems = [f"not in the model: {path}" for path in found.keys() - target.keys()]
    problems += [f"unfilled: {path}" for path in target.keys() - found.keys()]
    problems += [
        f"shape: {path}: {found[path].shape}, where {target[path].shape} is wanted"
        for path in found.keys() & target.keys()
        if found[path].shape != target[path].shape
    ]
    if problems:
        raise ConversionError(problems)
    return {path: array.astype(target[path].dtype) for path, array in found.items()}

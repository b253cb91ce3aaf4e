"""Filling a detector's backbone with a classifier's weights, or with those of another detector's backbone."""

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

_BACKBONE, _CLASSIFIER, _COUNTER = "backbone.", "fc.", ".count"


def load_backbone(
    model: Detector,
    weights: str | os.PathLike[str] | Mapping[str, Any],
    *,
    container: str | None = None,
    keep: Mapping[str, Any] | None = None,
) -> tuple[Detector, tuple[str, ...]]:
    """Fills a detector's backbone with the weights of a classifier.

    Weights of a detector without heads (of HeadHunter, or of RetinaFace, whose heads are dropped) also fill the pyramid
    and the context modules, which the detector has to have.

    The conversion is strict: the whole backbone is filled, and no weights are left over except the classifier's ``fc``.
    The norms keep the detector's kind: frozen norms drop the batch counters, and missing counters start at 0. The
    options that belong to the weights are taken from them (`jaxdet.runs.follow.follow_classifier`): of a Darknet-53 its
    slope and the normalisation of images; of a jaxdet folder its whole backbone configuration and the eps of its norms.

    Args:
        model: a detector from `jaxdet.create_model`. It is not changed.
        weights: anything that `load_torch` reads, or the folder of a classifier that ``jaxdet convert`` or
            `jaxdet.save` wrote. Changes to names and dtypes are logged to "jaxdet".
        container: see `load_torch`.
        keep: options of the model, with their values, that the weights do not change.

    Returns:
        The detector, and the names of the tensors that were dropped.

    Raises:
        ValueError: the weights cannot be read, or are not those of a classifier of the same kind as the backbone.
        ConversionError: the weights do not fit the backbone.
    """
    config = model.config
    if config.task is not Task.DETECTION or config.needs_backbone:
        raise ValueError("load_backbone takes a detector with one of jaxdet's backbones, as create_model returns it")
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
        raise ValueError(f"{where} are of a whole detector: give weights of a classifier, or start from that detector")
    _check_kind(config.backbone_config, theirs, where)
    config = override_model(follow_classifier(config, theirs, described=described), keep or {})
    if bare is not None:
        return _with_backbone(model, config, classifier), bare

    found = arrays(classifier)
    table = model_table(classifier.config, getattr(classifier, "origin", ()))
    names = [name for path in found if path.startswith(_CLASSIFIER) for _, name in table.inverse(path)]
    current = arrays(model)
    target = {path: array for path, array in current.items() if path.startswith(_BACKBONE)}
    backbone = {_BACKBONE + path: array for path, array in found.items() if not path.startswith(_CLASSIFIER)}
    filled = fill(abstract(config, numerics=model.numerics), current | _fit(backbone, target))
    filled.origin = getattr(model, "origin", ())
    return filled, tuple(sorted(names))


def _with_backbone(model: Detector, config: DetectorConfig, other: Model) -> Detector:
    """The detector with another configuration, and the backbone, pyramid and context modules of another model."""
    found, target = (
        {path: array for path, array in arrays(whole).items() if path.startswith(source_of(whole.config).trunk)}
        for whole in (other, model)
    )
    filled = fill(abstract(config, numerics=model.numerics), arrays(model) | _fit(found, target))
    filled.origin = getattr(model, "origin", ())
    return filled


def _check_kind(backbone: BackboneConfig, classifier: BackboneConfig, where: str) -> None:
    ours, theirs = _kind(backbone), _kind(classifier)
    if ours != theirs:
        raise ValueError(f"{where} are of {theirs}, but the detector's backbone is {ours}: give weights of that")


def _kind(config: BackboneConfig) -> str:
    options = ", ".join(f"{name}={getattr(config, name)}" for name in backbone_of(config).shaping)
    return type(config).__name__.removesuffix("Config") + (f" ({options})" if options else "")


def _fit(found: dict[str, jax.Array], target: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Fits the arrays to the detector's norms and dtypes. Strict except for batch counters.

    Raises:
        ConversionError: paths or shapes differ.
    """
    found = {path: array for path, array in found.items() if path in target or not path.endswith(_COUNTER)}
    found |= {path: jnp.zeros_like(target[path]) for path in target.keys() - found.keys() if path.endswith(_COUNTER)}
    problems = [f"not in the model: {path}" for path in found.keys() - target.keys()]
    problems += [f"unfilled: {path}" for path in target.keys() - found.keys()]
    problems += [
        f"shape: {path}: {found[path].shape}; expected {target[path].shape}"
        for path in found.keys() & target.keys()
        if found[path].shape != target[path].shape
    ]
    if problems:
        raise ConversionError(problems)
    return {path: array.astype(target[path].dtype) for path, array in found.items()}

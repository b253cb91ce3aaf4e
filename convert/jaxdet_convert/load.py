"""Weights of PyTorch and Darknet as a model of this library."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flax import nnx

from jaxdet.backbones import ClassifierTransform
from jaxdet.base import Model, ModelConfig, Task
from jaxdet.data.formats.coco_names import COCO_NAMES
from jaxdet.models import list_models, model_config
from jaxdet.models.options import changes, override_model
from jaxdet.nn import NormConfig, Numerics
from jaxdet.saving.description import Description
from jaxdet_convert.assumed import assumed
from jaxdet_convert.fill import fill_strictly
from jaxdet_convert.official import OFFICIAL, OfficialWeights, recognise_official
from jaxdet_convert.options_file import check_kind, options_file, read_options, with_eps
from jaxdet_convert.read.unwrap import read_model
from jaxdet_convert.read.weights import Weights
from jaxdet_convert.recognise import recognise
from jaxdet_convert.sources.backbones import layers_of_numbers
from jaxdet_convert.sources.base import Recognised, RecognitionError
from jaxdet_convert.sources.modules import NORM_EPS

_LOG = logging.getLogger("jaxdet")


@dataclass(frozen=True, eq=False)
class Conversion:
    """A model and how it was made.

    Attributes:
        name: of the model, as recognised.
        told: options of it that the weights told.
        source, container, prefix, beside: see `jaxdet_convert.read.weights.Weights`.
        dropped: names of the weights that were left out: the old predictor's, or RetinaFace's heads.
        fresh: parameters that are new.
        bare: the weights are a detector's body, pyramid and context alone, and its heads are new.
        also: another model whose weights have the same names and shapes.
        official: which of torchvision's published files the weights are.
        described: the options that lay beside the weights, in ``m.json`` of ``m.pth``.
        changed: options of those that the caller gave otherwise, a line each.
        assumed: one line of the options that nobody told, with their values; empty where there are none.
    """

    model: Model
    name: str
    told: Mapping[str, Any]
    source: str
    container: str | None = None
    prefix: str = ""
    beside: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    bare: bool = False
    also: str | None = None
    official: OfficialWeights | None = None
    described: Description | None = None
    changed: tuple[str, ...] = ()
    assumed: str = ""

    @property
    def norm_eps(self) -> float:
        """Of the backbone's norms."""
        return self.model.config.backbone_config.norm.eps


def load_torch(weights: str | os.PathLike[str] | Mapping[str, Any], name: str | None = None, **options: Any) -> Model:
    """A model from PyTorch's or Darknet's weights; `convert_weights` documents the options and errors.

    One line of the log names the options that nobody told, and their values.
    """
    result = convert_weights(weights, name, **options)
    where = "these weights" if isinstance(weights, Mapping) else os.fspath(weights)
    for line in result.changed:
        _LOG.warning("%s: %s", where, line)
    if result.assumed:
        _LOG.warning("%s: assumed, because weights do not say it: %s", where, result.assumed)
    return result.model


def convert_weights(
    weights: str | os.PathLike[str] | Mapping[str, Any],
    name: str | None = None,
    *,
    num_classes: int | None = None,
    norm_eps: float | None = None,
    names: Sequence[str] | None = None,
    container: str | None = None,
    fresh_predictor: bool = False,
    rngs: nnx.Rngs | None = None,
    dtype: str | None = None,
    param_dtype: str | None = None,
    precision: str | None = None,
    **options: Any,
) -> Conversion:
    """A model from weights, and what was recognised, dropped and left fresh on the way.

    Weights of a detector's body and pyramid alone, RetinaFace's among them, give a detector with new heads.

    A state dict holds no options (sizes, anchors, class names, ...). Where they lie beside it, as `save_model` writes
    them, ``m.json`` beside ``m.pth``, they are taken from there; options that are given here go before them.

    Args:
        weights: a file (.pth, .pt, .tar, .safetensors, .safetensors.index.json, .weights), the folder of sharded
            weights, or a state dict of arrays or torch tensors. Names may have a prefix, such as a training framework's
            ``model.``; floats of another width are cast. Both are said on the log "jaxdet".
        name: of the model; by default recognised from the weights' names and shapes, as are the options that these
            tell. Given, it has to agree.
        num_classes: with ``fresh_predictor``, of the new predictor; otherwise it has to agree with the weights.
        norm_eps: of all norms, which no state dict holds; by default 0.0 for torchvision's official COCO_V1 file of
            ``fasterrcnn_resnet50_fpn`` (known by its hash) and 1e-5 for all others.
        names: of a detector's classes, the background first; by default COCO's for torchvision's detectors of 91.
        container: the entry that holds the state dict, where a checkpoint has several: a dotted path, whose end may be
            what names begin with (``"state_dict.ema_model"``).
        fresh_predictor: leave out the weights' predictor (a classifier's ``fc``) and initialise a new one.
        rngs: of that predictor; by default ``nnx.Rngs(0)``.
        dtype, param_dtype, precision: see `jaxdet.nn.Numerics`; by default float32 of the highest precision.
        options: of the model (`jaxdet.create_model`); they go before what the weights tell.

    Raises:
        WeightsError: the file does not read, or holds several sets of weights and ``container`` names none.
        RecognitionError: the weights are of no model of this library, or of another than ``name``.
        ConversionError: something in the weights or the model is left over, or has another shape: all is listed.
        ValueError: an option is unknown or does not fit the weights; or ``m.json`` holds something else, or is of
            another model.
    """
    described = None if isinstance(weights, Mapping) else read_options(weights)
    read = read_model(weights, container=container, layers=layers_of_numbers)
    found = recognise_weights(read, name)
    official = recognise_official(read.file) if read.file else None
    assumed_eps = norm_eps is None and official is None
    eps = norm_eps
    if eps is None:
        eps = official.norm_eps if official is not None and found.is_detector else NORM_EPS
    told: dict[str, Any] = {
        key: replace(value, eps=eps) if isinstance(value, NormConfig) else value for key, value in found.options.items()
    }
    if official is not None and not found.is_detector:
        told["transform"] = ClassifierTransform(resize=official.resize)
    if num_classes is not None:
        options["num_classes"] = _agreed(num_classes, told.get("num_classes"), fresh_predictor or found.bare)
    if names is not None:
        options["names"] = tuple(names)
    given = {"dtype": dtype, "param_dtype": param_dtype, "precision": precision}
    numerics = Numerics() if described is None else described.numerics
    numerics = replace(numerics, **{key: value for key, value in given.items() if value is not None})
    changed: tuple[str, ...] = ()
    missing = ""
    if described is not None:
        assert not isinstance(weights, Mapping)
        beside = options_file(weights)
        check_kind(described.config, model_config(found.name, **told), beside)
        config = override_described(described.config, options, norm_eps)
        changed = tuple(f"{line}, as given and unlike {beside.name}" for line in changes(described.config, config))
    else:
        chosen = told | options
        if names is None and not fresh_predictor:
            chosen |= coco_names(found.name, chosen)
        config = model_config(found.name, **chosen)
        if official is None:
            missing = assumed(config, told.keys() | options.keys(), norm_eps=eps if assumed_eps else None)
    rngs = (nnx.Rngs(0) if rngs is None else rngs) if fresh_predictor or found.bare else None
    try:
        model, converted = fill_strictly(read, found, config, numerics, rngs)
    except ValueError as error:
        if described is None:
            raise
        raise ValueError(f"{beside} does not fit the weights: {error}. Correct it, or move it away") from error
    fresh = tuple(path for path in converted.fresh if not path.endswith(".count"))
    return Conversion(
        model, found.name, told, read.source, read.container, read.prefix, read.beside, converted.dropped, fresh,
        found.bare, found.also, official, described, changed, missing,
    )  # fmt: skip


def override_described(config: ModelConfig, options: Mapping[str, Any], norm_eps: float | None) -> ModelConfig:
    """The configuration beside some weights with what was given otherwise; names of other classes go."""
    if options.get("num_classes", config.num_classes) != config.num_classes and "names" not in options:
        config = config.with_classes((), options["num_classes"])
    if "names" in options:
        config = config.with_classes((), config.num_classes)
    config = override_model(config, dict(options))
    return config if norm_eps is None else with_eps(config, norm_eps)


def official_config(name: str) -> ModelConfig:
    """The configuration of the model that official weights give, which need not be here for it."""
    weights = OFFICIAL[name]
    config: Any = model_config(name if name in list_models() else name.rpartition("_v")[0])
    if config.task is Task.CLASSIFICATION:
        return replace(config, transform=ClassifierTransform(resize=weights.resize))
    return replace(config, backbone=with_eps(config.backbone, weights.norm_eps), names=COCO_NAMES)


def recognise_weights(read: Weights, name: str | None = None) -> Recognised:
    """What weights that were read are of; an error names the file.

    Raises:
        RecognitionError: see `jaxdet_convert.recognise.recognise`.
    """
    try:
        return recognise({key: tuple(array.shape) for key, array in read.tensors.items()}, name)
    except RecognitionError as error:
        raise RecognitionError(f"{read.file}: {error}" if read.file else str(error)) from None


def coco_names(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The option ``names`` for a detector of torchvision that has COCO's count of classes; otherwise nothing."""
    official = name in OFFICIAL and name in list_models(Task.DETECTION)
    is_coco = official and options.get("num_classes") == len(COCO_NAMES) and not options.get("names")
    return {"names": COCO_NAMES} if is_coco else {}


def _agreed(num_classes: int, told: int | None, fresh: bool) -> int:
    if num_classes != told and not fresh:
        has = "have no classifier" if told is None else f"are for {told} classes"
        raise ValueError(
            f"the weights {has} and num_classes={num_classes} was asked for: leave it out, or start with a new "
            "predictor (fresh_predictor=True, --fresh-predictor)"
        )
    return num_classes

"""Loading weights of PyTorch and Darknet as a model."""

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
    """A model that was converted from weights, and how.

    Attributes:
        name: the recognised name of the model.
        told: options that the weights determine.
        source, container, prefix, beside: see `jaxdet_convert.read.weights.Weights`.
        dropped: names of the tensors that were dropped: those of the old predictor, or RetinaFace's heads.
        fresh: paths of the parameters that were initialised.
        bare: whether the weights are those of a detector without heads, which were initialised.
        also: the name of another model whose weights have the same names and shapes.
        official: the official torchvision file that the weights are from.
        described: the options in the file beside the weights, ``m.json`` for ``m.pth``.
        changed: one line per option in that file that the caller overrode.
        assumed: one line with the options that neither weights nor caller determine, and their values; may be empty.
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
        """The eps of the backbone's norms."""
        return self.model.config.backbone_config.norm.eps


def load_torch(weights: str | os.PathLike[str] | Mapping[str, Any], name: str | None = None, **options: Any) -> Model:
    """Loads a model from PyTorch's or Darknet's weights. `convert_weights` documents the options and errors.

    Options that neither the weights nor the caller determine are logged to "jaxdet" with their values.
    """
    result = convert_weights(weights, name, **options)
    where = "these weights" if isinstance(weights, Mapping) else os.fspath(weights)
    for line in result.changed:
        _LOG.warning("%s: %s", where, line)
    if result.assumed:
        _LOG.warning("%s: assumed, as weights do not contain it: %s", where, result.assumed)
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
    """Converts weights to a model, and reports what was recognised, dropped and initialised.

    Weights of a detector without heads, such as RetinaFace's, give a detector with freshly initialised heads.

    A state dict does not contain options (sizes, anchors, class names, ...). If `save_model` wrote them beside the
    weights (``m.json`` for ``m.pth``), they are read from there. Options that the caller gives override them.

    Args:
        weights: a file (.pth, .pt, .tar, .safetensors, .safetensors.index.json, .weights), the folder of sharded
            weights, or a state dict of arrays or torch tensors. Names may have a prefix, such as a training framework's
            ``model.``, which is removed; floats of another dtype are cast. Both are logged to "jaxdet".
        name: the model's name; by default recognised from names and shapes. If given, it has to match them.
        num_classes: with ``fresh_predictor`` the number of classes of the new predictor; otherwise it has to match the
            weights.
        norm_eps: the eps of all norms, which state dicts do not contain; by default 0.0 for torchvision's official
            files of ``fasterrcnn_resnet50_fpn`` and ``retinanet_resnet50_fpn`` (recognised by their hash), and 1e-5 for
            all others.
        names: the class names of a detector, including the background; by default COCO's for torchvision's detectors
            with 91 classes.
        container: the entry with the state dict if a checkpoint has several: a dotted path, which may end in a common
            prefix of names (``"state_dict.ema_model"``).
        fresh_predictor: drop the predictor of the weights (a classifier's ``fc``) and initialise a new one.
        rngs: for the initialised parameters; by default ``nnx.Rngs(0)``.
        dtype, param_dtype, precision: see `jaxdet.nn.Numerics`; by default float32 with the highest precision.
        options: of the model (see `jaxdet.create_model`). They override options that the weights determine.

    Raises:
        WeightsError: the file cannot be read, or contains several sets of weights and ``container`` selects none.
        RecognitionError: the weights are not those of a known model, or those of another model than ``name``.
        ConversionError: tensors or parameters are left over, or have another shape. The error lists all of them.
        ValueError: an option is unknown or does not fit the weights; or ``m.json`` cannot be read or describes another
            model.
    """
    described = None if isinstance(weights, Mapping) else read_options(weights)
    read = read_model(weights, container=container, layers=layers_of_numbers)
    found = recognise_weights(read, name)
    official = recognise_official(read.file) if read.file else None
    assumed_eps = norm_eps is None and official is None
    eps = norm_eps
    if eps is None:
        eps = official.norm_eps if official is not None and found.is_detector else NORM_EPS
    known: dict[str, Any] = {
        key: replace(value, eps=eps) if isinstance(value, NormConfig) else value for key, value in found.options.items()
    }
    if official is not None and not found.is_detector:
        known["transform"] = ClassifierTransform(resize=official.resize)
    if num_classes is not None:
        options["num_classes"] = _check_num_classes(
            num_classes, known.get("num_classes"), fresh_predictor or found.bare
        )
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
        check_kind(described.config, model_config(found.name, **known), beside)
        config = override_described(described.config, options, norm_eps)
        changed = tuple(f"{line} (given; {beside.name} differs)" for line in changes(described.config, config))
    else:
        chosen = known | options
        if names is None and not fresh_predictor:
            chosen |= coco_names(found.name, chosen)
        config = model_config(found.name, **chosen)
        if official is None:
            missing = assumed(config, known.keys() | options.keys(), norm_eps=eps if assumed_eps else None)
    rngs = (nnx.Rngs(0) if rngs is None else rngs) if fresh_predictor or found.bare else None
    try:
        model, converted = fill_strictly(read, found, config, numerics, rngs)
    except ValueError as error:
        if described is None:
            raise
        raise ValueError(f"{beside} does not fit the weights: {error}. Correct it, or move it away") from error
    fresh = tuple(path for path in converted.fresh if not path.endswith(".count"))
    return Conversion(
        model, found.name, known, read.source, read.container, read.prefix, read.beside, converted.dropped, fresh,
        found.bare, found.also, official, described, changed, missing,
    )  # fmt: skip


def override_described(config: ModelConfig, options: Mapping[str, Any], norm_eps: float | None) -> ModelConfig:
    """The configuration beside the weights with the given options. If the classes change, their names are removed."""
    if options.get("num_classes", config.num_classes) != config.num_classes and "names" not in options:
        config = config.with_classes((), options["num_classes"])
    if "names" in options:
        config = config.with_classes((), config.num_classes)
    config = override_model(config, dict(options))
    return config if norm_eps is None else with_eps(config, norm_eps)


def official_config(name: str) -> ModelConfig:
    """The configuration of the model with these official weights, which need not be downloaded."""
    weights = OFFICIAL[name]
    config: Any = model_config(name if name in list_models() else name.rpartition("_v")[0])
    if config.task is Task.CLASSIFICATION:
        return replace(config, transform=ClassifierTransform(resize=weights.resize))
    return replace(config, backbone=with_eps(config.backbone, weights.norm_eps), names=COCO_NAMES)


def recognise_weights(read: Weights, name: str | None = None) -> Recognised:
    """Recognises the model of weights. Errors name the file.

    Raises:
        RecognitionError: see `jaxdet_convert.recognise.recognise`.
    """
    try:
        return recognise({key: tuple(array.shape) for key, array in read.tensors.items()}, name)
    except RecognitionError as error:
        raise RecognitionError(f"{read.file}: {error}" if read.file else str(error)) from None


def coco_names(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The option ``names`` for a torchvision detector with as many classes as COCO; otherwise empty."""
    official = name in OFFICIAL and name in list_models(Task.DETECTION)
    is_coco = official and options.get("num_classes") == len(COCO_NAMES) and not options.get("names")
    return {"names": COCO_NAMES} if is_coco else {}


def _check_num_classes(num_classes: int, found: int | None, fresh: bool) -> int:
    """Returns ``num_classes``. Raises ValueError if the weights have another number and the predictor is kept."""
    if num_classes != found and not fresh:
        has = "have no classifier" if found is None else f"are for {found} classes"
        raise ValueError(
            f"the weights {has} and num_classes={num_classes} was asked for: leave it out, or initialise a new "
            "predictor (fresh_predictor=True, --fresh-predictor)"
        )
    return num_classes

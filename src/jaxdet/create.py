"""Creating models by name, new or with weights."""

from __future__ import annotations

import enum
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from types import EllipsisType
from typing import Any

from flax import nnx

from jaxdet.inference import with_options
from jaxdet.models import HeadHunter, Task, abstract, build, model_config
from jaxdet.models.headhunter.presets import options_of_cfg
from jaxdet.models.options import changes, model_options
from jaxdet.nn import Numerics
from jaxdet.nn.parameters import arrays, fill
from jaxdet.paths import to_path
from jaxdet.saving.resolve import find_weights, open_weights, weights_of

_LOG = logging.getLogger("jaxdet")


def create_model(
    name: str,
    *,
    weights: str | os.PathLike[str] | enum.Enum | None = None,
    num_classes: int | EllipsisType | None = ...,
    dtype: str | None = None,
    precision: str | None = None,
    backbone_weights: str | os.PathLike[str] | None = None,
    rngs: nnx.Rngs | None = None,
    **options: Any,
) -> Any:
    """Creates a model by name (`jaxdet.list_models`), with weights or freshly initialised parameters.

    Args:
        weights: ``"DEFAULT"`` or the name of other official weights of the model (`jaxdet.list_weights`), which are
            downloaded once; a PyTorch, safetensors or Darknet file; the folder of a model or a training run; None: new
            parameters. Options that the weights do not determine can be given as well. Reading files needs
            ``jaxdet[convert]``.
        num_classes: for a classifier, None creates a backbone without a classifier; for a detector, including the
            background (91 for COCO). With weights, it must be theirs: use `jaxdet.with_classes` to exchange the
            classes.
        dtype: of the computation, ``"float32"`` or ``"bfloat16"``; by default that of the weights, and float32 for a
            new model. Parameters are float32.
        precision: of float32 products: ``"highest"`` (the default) is full float32 on every platform, ``"default"`` is
            the platform's default.
        backbone_weights: a classifier's checkpoint (PyTorch, Darknet, or a jaxdet folder) for a detector's backbone.
            It must have all of the backbone's parameters; its ``fc`` is left out, which is logged. Options that belong
            to the weights are taken from them unless they are given here (the slope of a Darknet-53, the normalisation
            of images).
        rngs: for new parameters; by default ``nnx.Rngs(0)``.
        options: see `jaxdet.models.model_config`.

    Raises:
        ValueError: a name or an option is unknown, or the weights are for another model.
        OSError: official weights cannot be downloaded.
    """
    given = {"dtype": dtype, "precision": precision}
    numerics = {key: value for key, value in given.items() if value is not None}
    if num_classes is not ...:
        options["num_classes"] = num_classes
    if weights is not None:
        if backbone_weights is not None:
            raise ValueError("weights include the backbone: give weights or backbone_weights, not both")
        return _from_weights(name, weights_of(name, weights), numerics, options)
    model = build(model_config(name, **options), numerics=Numerics(**numerics), rngs=rngs)
    if backbone_weights is None:
        return model
    if model.config.task is not Task.DETECTION:
        raise ValueError(f"backbone_weights fills a detector's backbone, and {name} has none: use weights=")
    from jaxdet_convert import load_backbone  # a separate package, which reads weights files

    keep = {key: value for key, value in options.items() if key in model_options(model.config)}
    filled, dropped = load_backbone(model, backbone_weights, keep=keep)
    lines = [f"left out {', '.join(dropped) or 'nothing'}"]
    lines += [f"{change}, as in the weights" for change in changes(model.config, filled.config)]
    for line in lines:
        _LOG.warning("%s: %s", backbone_weights, line)
    return filled


def _from_weights(name: str, weights: str, numerics: dict[str, str], options: dict[str, Any]) -> Any:
    """The named model with the weights of a file or folder, or with official weights."""
    place = find_weights(weights)
    reading: dict[str, Any] = {"name": name, **numerics, **options}
    stored: Any = open_weights(place, say=_LOG.warning, **reading)
    wanted = model_config(name)
    if type(stored.config) is not type(wanted):
        held = type(stored).__name__
        raise ValueError(f"{weights} has a {held}, but {name} is another kind of model: open it with jaxdet.load")
    if not to_path(place).is_dir():
        return stored
    count = options.pop("num_classes", stored.config.num_classes)
    if count != stored.config.num_classes:
        raise ValueError(
            f"{weights} has {stored.config.num_classes} classes, but num_classes={count} was given: leave it out, and "
            "exchange the classes with jaxdet.with_classes"
        )
    stored = with_options(stored, **options) if options else stored
    given = model_config(name, **options).with_classes(stored.config.names, stored.config.num_classes)
    for line in changes(given, stored.config):
        _LOG.warning("%s: %s, as in the weights", weights, line)
    changed = replace(stored.numerics, **numerics)
    if changed == stored.numerics:
        return stored
    backbone = getattr(stored, "backbone", None)
    model = fill(abstract(stored.config, numerics=changed, backbone=backbone), arrays(stored))
    model.origin = stored.origin
    return model


def headhunter_from_cfg(
    cfg: Mapping[str, Any],
    *,
    pretrain: str | os.PathLike[str] | None = None,
    use_deform: bool = False,
    rngs: nnx.Rngs | None = None,
    **options: Any,
) -> HeadHunter:
    """Creates HeadHunter from the arguments of its original function ``customRCNN(cfg, **options)``.

    Keys and options without effect are logged; see `jaxdet.models.headhunter.presets.options_of_cfg`. The anchors of
    ``cfg`` are used unless ``median_anchors`` is False or the name of a benchmark.

    Args:
        cfg: such as ``{"name": "Resnet50", "return_layers": {"layer1": 0, ...}, "out_channel": 256, ...}``. Its
            ``pretrain`` may be the path of a classifier's checkpoint for the backbone. True, for which the original
            downloads one, loads nothing.
        pretrain: replaces the ``pretrain`` of ``cfg``.
        use_deform: has no effect, as in the original; ``context="deform_ssh"`` gives deformable convolutions.
        options: see `jaxdet.models.headhunter_config` and `create_model`.

    Raises:
        ValueError: the backbone or context is unknown, there are five levels, or a value does not fit the backbone.
    """
    name, cfg_options = options_of_cfg(cfg)
    if options.get("median_anchors", True) is not True:
        cfg_options.pop("rpn_anchor_generator", None)
    if isinstance(options.get("context"), str):
        options["context"] = options["context"].lower()  # the original ignores case
    if use_deform:
        _LOG.warning('use_deform has no effect: context="deform_ssh" gives deformable convolutions')
    weights = cfg.get("pretrain") if pretrain is None else pretrain
    if weights is True:
        _LOG.warning("pretrain=True names no checkpoint, so the backbone is not filled: give the path of one")
        weights = None
    model: Any = create_model(name, backbone_weights=weights or None, rngs=rngs, **(cfg_options | options))
    return model

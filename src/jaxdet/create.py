"""`create_model`, the front door: named models, new or with weights."""

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
    """A model by its name (`jaxdet.list_models`), with weights or with freshly initialised parameters.

    Args:
        weights: ``"DEFAULT"`` or another of the model's official weights (`jaxdet.list_weights`), which are downloaded
            once; a PyTorch, safetensors or Darknet file; the folder of a model or a training run; None: new parameters.
            Options that the weights do not fix may be given beside it. Reading files needs ``jaxdet[convert]``.
        num_classes: of a classifier, None for a backbone alone; of a detector with the background (91 for COCO). With
            weights it has to agree with theirs: `jaxdet.with_classes` exchanges the classes afterwards.
        dtype: in which it computes, ``"float32"`` (of a new model) or ``"bfloat16"``; parameters are float32.
        precision: of float32 products: ``"highest"`` (the default) is true float32 on every platform, ``"default"`` the
            platform's.
        backbone_weights: a classifier's checkpoint (PyTorch's, Darknet's, or a jaxdet folder) that fills a detector's
            backbone, strictly; its ``fc`` is left out, which the log names. Options that belong to the weights follow
            them unless they are given here (a Darknet-53's slope, how images are normalised).
        rngs: of new parameters; by default ``nnx.Rngs(0)``.
        options: see `jaxdet.models.model_config`.

    Raises:
        ValueError: a name or an option is unknown, or the weights are of another model.
        OSError: official weights cannot be had.
    """
    given = {"dtype": dtype, "precision": precision}
    numerics = {key: value for key, value in given.items() if value is not None}
    if num_classes is not ...:
        options["num_classes"] = num_classes
    if weights is not None:
        if backbone_weights is not None:
            raise ValueError("weights fill the backbone, too: give weights or backbone_weights, not both")
        return _from_weights(name, weights_of(name, weights), numerics, options)
    model = build(model_config(name, **options), numerics=Numerics(**numerics), rngs=rngs)
    if backbone_weights is None:
        return model
    if model.config.task is not Task.DETECTION:
        raise ValueError(f"backbone_weights fills a detector's backbone, and {name} has none: use weights=")
    from jaxdet_convert import load_backbone  # the one reader of such files stands beside jaxdet

    keep = {key: value for key, value in options.items() if key in model_options(model.config)}
    filled, dropped = load_backbone(model, backbone_weights, keep=keep)
    told = [f"left out {', '.join(dropped) or 'nothing'}"]
    told += [f"{change}, as in the weights" for change in changes(model.config, filled.config)]
    for line in told:
        _LOG.warning("%s: %s", backbone_weights, line)
    return filled


def _from_weights(name: str, weights: str, numerics: dict[str, str], options: dict[str, Any]) -> Any:
    """The named model with the weights of a file, a folder, or official ones by their key."""
    place = find_weights(weights)
    reading: dict[str, Any] = {"name": name, **numerics, **options}
    stored: Any = open_weights(place, say=_LOG.warning, **reading)
    wanted = model_config(name)
    if type(stored.config) is not type(wanted):
        held = type(stored).__name__
        raise ValueError(f"{weights} holds a {held}, and {name} is another kind of model: open it with jaxdet.load")
    if not to_path(place).is_dir():
        return stored
    count = options.pop("num_classes", stored.config.num_classes)
    if count != stored.config.num_classes:
        raise ValueError(
            f"{weights} is for {stored.config.num_classes} classes and num_classes={count} was asked for: leave it "
            "out, and exchange the classes by jaxdet.with_classes"
        )
    stored = with_options(stored, **options) if options else stored
    told = model_config(name, **options).with_classes(stored.config.names, stored.config.num_classes)
    for line in changes(told, stored.config):
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
    """HeadHunter as its ``customRCNN(cfg, **options)`` makes it, from the same dictionary and options.

    A key or an option that had no effect is named in the log; see
    `jaxdet.models.headhunter.presets.options_of_cfg`. The anchors of the cfg are used unless ``median_anchors`` is
    False or a benchmark's name.

    Args:
        cfg: such as ``{"name": "Resnet50", "return_layers": {"layer1": 0, ...}, "out_channel": 256, ...}``. Its
            ``pretrain`` may be the path of a classifier's checkpoint that fills the backbone; True, for which the
            original downloads one, fills nothing.
        pretrain: in place of the cfg's.
        use_deform: never had an effect; ``context="deform_ssh"`` is what deforms.
        options: see `jaxdet.models.headhunter_config` and `create_model`.

    Raises:
        ValueError: an unknown backbone or context, five levels, or a key whose value does not fit the backbone.
    """
    name, told = options_of_cfg(cfg)
    if options.get("median_anchors", True) is not True:
        told.pop("rpn_anchor_generator", None)
    if isinstance(options.get("context"), str):
        options["context"] = options["context"].lower()  # the original's spelling is free in this
    if use_deform:
        _LOG.warning('use_deform has no effect: context="deform_ssh" gives deformable convolutions')
    weights = cfg.get("pretrain") if pretrain is None else pretrain
    if weights is True:
        _LOG.warning("pretrain=True names no checkpoint, so the backbone is not filled: give the path of one")
        weights = None
    model: Any = create_model(name, backbone_weights=weights or None, rngs=rngs, **(told | options))
    return model

"""`create_model`, the front door: named models, if wanted on a trained body."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from types import EllipsisType
from typing import Any

from flax import nnx

from jaxdet.models import HeadHunter, Model, Task, build, model_config
from jaxdet.models.headhunter.presets import options_of_cfg
from jaxdet.models.options import changes, model_options
from jaxdet.nn import Numerics


def create_model(
    name: str,
    *,
    num_classes: int | EllipsisType | None = ...,
    dtype: str = "float32",
    precision: str = "highest",
    backbone_weights: str | os.PathLike[str] | None = None,
    rngs: nnx.Rngs | None = None,
    **options: Any,
) -> Model:
    """A model by its name (`jaxdet.list_models`), with freshly initialised parameters.

    Args:
        num_classes: of a classifier, None for a body alone; of a detector with the background (91 for COCO).
        dtype: ``"float32"`` or ``"bfloat16"``, in which it computes; parameters are float32.
        precision: of float32 products: ``"highest"`` is true float32 on every platform, ``"default"`` the platform's.
        backbone_weights: a classifier's checkpoint (PyTorch's, Darknet's, or a jaxdet folder) that fills a detector's
            body, strictly; its ``fc`` is left out, which the log names. Options that belong to the weights follow them
            unless they are given here (a Darknet-53's slope, how images are normalised). Needs ``jaxdet[convert]``.
        rngs: of the parameters; by default ``nnx.Rngs(0)``.
        options: see `jaxdet.models.model_config`.
    """
    if num_classes is not ...:
        options["num_classes"] = num_classes
    model = build(model_config(name, **options), numerics=Numerics(dtype, precision=precision), rngs=rngs)
    if backbone_weights is None:
        return model
    if model.config.task is not Task.DETECTION:
        raise ValueError(
            f"backbone_weights fills a detector's body, and {name} has none: use jaxdet_convert.load_torch"
        )
    from jaxdet_convert import load_backbone  # the one reader of such files stands beside jaxdet

    keep = {key: value for key, value in options.items() if key in model_options(model.config)}
    filled, dropped = load_backbone(model, backbone_weights, keep=keep)
    told = [f"left out {', '.join(dropped) or 'nothing'}"]
    told += [f"{change}, as the weights have" for change in changes(model.config, filled.config)]
    for line in told:
        logging.getLogger("jaxdet").warning("%s: %s", backbone_weights, line)
    return filled


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
            ``pretrain`` may name a classifier's checkpoint that fills the body; True, with which the original fetched
            one, names none and fills nothing.
        pretrain: in place of the cfg's.
        use_deform: never had an effect; ``context="deform_ssh"`` is what deforms.
        options: see `jaxdet.models.headhunter_config` and `create_model`.

    Raises:
        ValueError: an unknown backbone or context, five levels, or a key whose value does not fit the backbone.
    """
    log = logging.getLogger("jaxdet")
    name, told = options_of_cfg(cfg)
    if options.get("median_anchors", True) is not True:
        told.pop("rpn_anchor_generator", None)
    if isinstance(options.get("context"), str):
        options["context"] = options["context"].lower()  # the original's spelling is free in this
    if use_deform:
        log.warning('use_deform has no effect: context="deform_ssh" gives deformable convolutions')
    weights = cfg.get("pretrain") if pretrain is None else pretrain
    if weights is True:
        log.warning("pretrain=True names no checkpoint, so the body is not filled: give the path of one")
        weights = None
    model: Any = create_model(name, backbone_weights=weights or None, rngs=rngs, **(told | options))
    return model

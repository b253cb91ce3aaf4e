"""Conversion of a model to a PyTorch state dict, with the names of the weights that it was loaded from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxdet.base import Model, ModelConfig, Task
from jaxdet.saving.model import arrays
from jaxdet_convert import apply
from jaxdet_convert.rules import Spelling
from jaxdet_convert.sources.backbones import backbone_of
from jaxdet_convert.sources.registry import source_of


def to_torch(model: Model, spelling: str | None = None) -> dict[str, np.ndarray]:
    """Converts a model to a state dict for ``load_state_dict(strict=True)`` of the original PyTorch module.

    The state dict of a model that was loaded from weights is bit-equal to them.

    Args:
        spelling: the variant of the parameter names. Detectors: ``"new"`` (current torchvision), ``"old"`` (before
            torchvision 0.13), or for example ``"old-fpn"`` if only that part has old names. The old names exist only
            for a pyramid and heads without norms, and in Faster R-CNN only for one RPN convolution. Darknet-53:
            ``"listing"`` (a widespread PyTorch implementation), ``"timm"`` or ``"darknet"``. By default the spelling
            of the weights that the model was loaded from; for other models ``"new"`` and ``"listing"``.

    Returns:
        ``{name: array}``; batch counters are int64.

    Raises:
        ValueError: the model has no such spelling, or has a custom backbone.
        ConversionError: a parameter has no name in PyTorch.
    """
    config = model.config
    if config.needs_backbone:
        raise ValueError("this detector has a custom backbone, whose PyTorch names are unknown")
    source = source_of(config)
    origin = _origin(config, tuple(getattr(model, "origin", ())), spelling)
    values = {path: np.array(array) for path, array in arrays(model).items()}
    # The Darknet format has no batch counters.
    drop = apply.matching(("{x:path}.count",), values) if backbone_of(config.backbone_config).numbers in origin else ()
    tensors = apply.to_torch(values, source.table(config, origin), drop=drop)
    old = source.old_spellings(next((tag for tag in origin if tag in source.spellings), "new"))
    return {_old_name(name, old): tensor for name, tensor in tensors.items()}


def _old_name(name: str, spellings: Sequence[Spelling]) -> str:
    return next((old for spelling in spellings if (old := spelling.former(name)) is not None), name)


def _origin(config: ModelConfig, origin: tuple[str, ...], spelling: str | None) -> tuple[str, ...]:
    """The origin with another spelling."""
    if spelling is None:
        return origin
    known = _spellings(config)
    if spelling not in known:
        raise ValueError(f"this model has no spelling {spelling!r}; it has: {', '.join(known) or 'only one'}")
    source = source_of(config)
    kind = source.spellings if spelling in source.spellings else backbone_of(config.backbone_config).namings
    return (*(tag for tag in origin if tag not in kind), spelling)


def _spellings(config: ModelConfig) -> list[str]:
    source, backbone = source_of(config), backbone_of(config.backbone_config)
    known = list(source.spellings if source.has_old(config) else source.spellings[:1])
    if len(backbone.namings) > 1:
        alone = config.task is Task.CLASSIFICATION
        known += [naming for naming in backbone.namings if alone or naming != backbone.numbers]
    return known

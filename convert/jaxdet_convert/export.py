"""A model's parameters as a PyTorch state dict, in the spelling that they came from."""

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
    """The state dict that the original's ``load_state_dict(strict=True)`` takes: bit for bit what it came from.

    Args:
        spelling: ``"new"`` or ``"old"`` (before torchvision 0.13) of a detector whose pyramid and heads have no norms
            and, of a Faster R-CNN, one RPN convolution; ``"old-fpn"`` and its like, where only that part is old;
            ``"listing"``, ``"timm"`` or ``"darknet"`` of a Darknet-53. By default the one that the model came from, and
            for models born here today's torchvision and the PyTorch listing.

    Returns:
        ``{name: array}``; counters of batches are int64.

    Raises:
        ValueError: the model has no such spelling, or stands on a backbone of the caller's own.
        ConversionError: a parameter has no name there.
    """
    config = model.config
    if config.needs_backbone:
        raise ValueError("this detector stands on a backbone of your own, whose names in PyTorch nobody knows")
    source = source_of(config)
    origin = _origin(config, tuple(getattr(model, "origin", ())), spelling)
    values = {path: np.array(array) for path, array in arrays(model).items()}
    # A file of numbers alone has no counters.
    drop = apply.matching(("{x:path}.count",), values) if backbone_of(config.backbone_config).numbers in origin else ()
    tensors = apply.to_torch(values, source.table(config, origin), drop=drop)
    old = source.old_spellings(next((tag for tag in origin if tag in source.spellings), "new"))
    return {_former(name, old): tensor for name, tensor in tensors.items()}


def _former(name: str, spellings: Sequence[Spelling]) -> str:
    return next((old for spelling in spellings if (old := spelling.former(name)) is not None), name)


def _origin(config: ModelConfig, origin: tuple[str, ...], spelling: str | None) -> tuple[str, ...]:
    """The origin with another spelling in place of its own."""
    if spelling is None:
        return origin
    known = _spellings(config)
    if spelling not in known:
        raise ValueError(f"this model has no spelling {spelling!r}; it has: {', '.join(known) or 'one alone'}")
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

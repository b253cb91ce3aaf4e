"""A model's parameters as a PyTorch state dict, in the spelling that they came from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxdet.backbones import Darknet53Config
from jaxdet.base import Model, ModelConfig
from jaxdet.models import FasterRCNNConfig, FPNConfig
from jaxdet.saving.model import arrays
from jaxdet_convert import apply
from jaxdet_convert.rules import Spelling
from jaxdet_convert.tables import DARKNET_SOURCES, OLD_SPELLINGS, model_table

_OLD_RPN, _OLD_FPN = OLD_SPELLINGS
SPELLINGS: dict[str, tuple[Spelling, ...]] = {
    "new": (),
    "old": OLD_SPELLINGS,
    "old-rpn": (_OLD_RPN,),
    "old-fpn": (_OLD_FPN,),
}


def to_torch(model: Model, spelling: str | None = None) -> dict[str, np.ndarray]:
    """The state dict that the original's ``load_state_dict(strict=True)`` takes: bit for bit what it came from.

    Args:
        spelling: ``"new"`` or ``"old"`` (before torchvision 0.13) of a Faster R-CNN with one RPN convolution and no
            norm in its pyramid; ``"listing"``, ``"timm"`` or ``"darknet"`` of a Darknet-53. By default the one that
            the model came from, and for models born here today's torchvision and the PyTorch listing.

    Returns:
        ``{name: array}``; counters of batches are int64.

    Raises:
        ValueError: the model has no such spelling, or stands on a backbone of the caller's own.
        ConversionError: a parameter has no name there.
    """
    config = model.config
    if isinstance(config, FasterRCNNConfig) and config.backbone is None:
        raise ValueError("this detector stands on a backbone of your own, whose names in PyTorch nobody knows")
    origin = _origin(config, tuple(getattr(model, "origin", ())), spelling)
    values = {path: np.array(array) for path, array in arrays(model).items()}
    # Darknet counts no batches, so its names hold no counters.
    drop = apply.matching(("{x:path}.count",), values) if "darknet" in origin else ()
    tensors = apply.to_torch(values, model_table(config, origin), drop=drop)
    old = next((SPELLINGS[tag] for tag in origin if tag in SPELLINGS), ())
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
    kind = SPELLINGS if spelling in SPELLINGS else DARKNET_SOURCES
    return (*(tag for tag in origin if tag not in kind), spelling)


def _spellings(config: ModelConfig) -> list[str]:
    detector = isinstance(config, FasterRCNNConfig)
    known = ["new"] if detector else []
    if isinstance(config, FasterRCNNConfig) and config.rpn.conv_depth == 1 and _has_old_fpn(config.fpn):
        known = list(SPELLINGS)
    backbone = config.backbone if isinstance(config, FasterRCNNConfig) else config
    if isinstance(backbone, Darknet53Config):
        known += [source for source in DARKNET_SOURCES if not (detector and source == "darknet")]
    return known


def _has_old_fpn(config: FPNConfig) -> bool:
    """RetinaFace's pyramid is spelt in one way, so that the RPN's spelling alone changes."""
    return config.norm is None or config.kind == "retinaface"

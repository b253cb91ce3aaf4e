"""torchvision's models with well-conditioned seeded weights, and their conversions; the last few are kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from flax import nnx

from jaxdet.base import Model
from jaxdet_convert import from_torch
from jaxdet_convert.parity.weights import smooth_image as smooth_image
from jaxdet_convert.parity.weights import torchvision_model
from jaxdet_convert.torchvision_cpu import import_torchvision

DETECTORS = ("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2")
KEPT = 3  # a pair of full models holds a third of a gigabyte


@lru_cache(maxsize=KEPT)
def pair(name: str, seed: int = 0, frozen: bool = False, **options: Any) -> tuple[Any, Model]:
    """torchvision's module and what `from_torch` makes of it."""
    module = torchvision_model(import_torchvision(), name, seed=seed, frozen=frozen, **options)
    return module, from_torch(module)


@lru_cache(maxsize=KEPT)
def slim_pair(name: str, seed: int = 0, frozen: bool = False, **options: Any) -> tuple[Any, Model]:
    """The same of torchvision's detectors, with one bottleneck a stage and narrow heads."""
    from twins.slim import slim_torchvision

    module = torchvision_model(slim_torchvision(), name, seed=seed, frozen=frozen, **options)
    return module, from_torch(module)


def changed(model: Model, path: str, function: Callable[[Any], Any]) -> Model:
    """A copy of the model with one parameter changed."""
    copy = nnx.merge(*nnx.split(model), copy=True)  # else it shares the original's
    variable: Any = copy
    for part in path.split("."):
        variable = variable[int(part)] if part.isdigit() else getattr(variable, part)
    variable[...] = function(variable[...])
    return copy


def resized(min_size: int) -> dict[str, int]:
    """Options for a smaller ``min_size`` with ``max_size`` in torchvision's proportion."""
    return {"min_size": min_size, "max_size": round(min_size * 1333 / 800)}

"""Comparison of a PyTorch module with its conversion on the same images."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax
import numpy as np

from jaxdet.base import Model
from jaxdet.data.arrays import checked_images
from jaxdet_convert.parity.report import Matching, Report, Stage
from jaxdet_convert.sources.registry import source_of


def compare(module: Any, model: Model, images: Sequence[np.ndarray]) -> Report:
    """Runs a PyTorch module and its conversion on the same images and compares the outputs of every stage.

    The module runs in evaluation mode with hooks, and is restored afterwards. Images are processed one at a time,
    because torchvision pads a batch to its largest image. The model uses the canvas that `jaxdet.predict` would choose.
    Each stage is compared on the outputs of the previous ones, except that the second stage of both gets the module's
    proposals. The final detections are also compared.

    Args:
        module: has the structure of the model's original (torchvision's Faster R-CNN or RetinaNet, HeadHunter, or a
            supported classifier).
        model: the conversion, from `jaxdet_convert.from_torch`.
        images: ``[H, W, 3]`` RGB, uint8 or float in 0..1, of any sizes.

    Returns:
        A `Report`: ``print(report.text())``, ``report.json()``, ``report.ok``.

    Raises:
        ValueError: no images, an invalid image, or a module with another structure.
    """
    images = checked_images(images)
    if not images:
        raise ValueError("there is nothing to compare: give at least one image")
    parity = source_of(model.config).parity
    stages: dict[str, Stage] = {}
    matchings: dict[str, Matching | None] = {"detections": None, "proposals": None}
    for number, image in enumerate(images):
        found = parity.compare(module, model, image, number)
        for stage in found.stages:
            stages[stage.name] = stages[stage.name].worst(stage) if stage.name in stages else stage
        for name, before in matchings.items():
            own = getattr(found, name)
            matchings[name] = own if before is None or own is None else before + own
    return Report(
        model=type(module).__name__,
        environment=_environment(module, model),
        images=tuple((int(image.shape[0]), int(image.shape[1])) for image in images),
        stages=tuple(stages.values()),
        notes=parity.notes(module, model),
        **matchings,
    )


def _environment(module: Any, model: Model) -> dict[str, str]:
    """The versions, devices and dtypes of both."""
    torch = sys.modules["torch"]
    found = {"jaxdet": _version("jaxdet"), "jax": jax.__version__, "torch": torch.__version__}
    if "torchvision" in sys.modules:
        found["torchvision"] = sys.modules["torchvision"].__version__
    first = next(module.parameters())
    numerics = model.numerics
    found["jaxdet on"] = f"{jax.devices()[0].device_kind}, {numerics.dtype}, precision {numerics.precision}"
    found["PyTorch on"] = f"{first.device}, {str(first.dtype).removeprefix('torch.')}"
    return found


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # a checkout that is not installed
        return "(not installed)"

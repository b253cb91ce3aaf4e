"""Proof that a model gives its original's numbers: your own PyTorch module and its conversion, side by side."""

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
    """Run the same images through both and measure every stage.

    The module is hooked, run in evaluation mode and left as it was. Images go through one by one, as torchvision pads
    a batch to its largest; the model puts each on the canvas that `jaxdet.predict` would choose. Every stage is
    compared as it comes, but for what a second stage computes, which sees the module's proposals in both; the
    detections are compared again from end to end.

    Args:
        module: built as the model's original (torchvision's Faster R-CNN or RetinaNet, HeadHunter), or a classifier
            with the layers of a model here.
        model: what `jaxdet_convert.from_torch` made of it.
        images: ``[H, W, 3]`` RGB, uint8 or float in 0..1, of any sizes.

    Returns:
        A `Report`: ``print(report.text())``, ``report.json()``, ``report.ok``.

    Raises:
        ValueError: no images, or something is none; or the module is not built as the original.
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
    """What ran, where and in which precision."""
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
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "(not installed)"

"""The stages of a detector, from the transform to post-processing."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxdet.data.batching.canvas import align, canvases, choose_canvas
from jaxdet.models import Detector
from jaxdet.models import Stage as DetectorStage
from jaxdet.ops.resize import resized_size
from jaxdet.summary.rows import Row, Shape, parameters, torch_order, trace
from jaxdet.types import Images


@dataclass(frozen=True)
class Output:
    """One output array of a stage, without the batch."""

    name: str
    shape: Shape
    note: str = ""


@dataclass(frozen=True)
class Stage:
    """A part of a detector. macs: the multiply-accumulates for the whole batch."""

    name: str
    detail: str
    outputs: tuple[Output, ...]
    parameters: int = 0
    macs: int = 0


def detector_stages(model: Detector, height: int, width: int, batch: int) -> tuple[tuple[Row, ...], tuple[Stage, ...]]:
    """The rows of a detector's layers, and its stages, for images of this size."""
    transform, canvas = _transform(model, height, width)
    pixels = jax.ShapeDtypeStruct((batch, *canvas, 3), jnp.float32)
    images = Images(pixels, jax.ShapeDtypeStruct((batch, 2), jnp.int32))  # type: ignore[arg-type]
    rows, found = trace(model, lambda model, images: model.stages(images), images)
    return rows, (transform, *(_stage(model, stage, rows) for stage in found))


def _stage(model: Detector, stage: DetectorStage, rows: tuple[Row, ...]) -> Stage:
    notes = stage.notes or ("",) * len(stage.names)
    outputs = tuple(
        Output(name, torch_order(x.shape[1:]) if stage.maps else x.shape[1:], note)
        for name, x, note in zip(stage.names, stage.arrays, notes, strict=True)
    )
    if not stage.module:
        return Stage(stage.name, stage.detail, outputs)
    macs = sum(row.macs for row in rows if row.path.split(".")[0] == stage.module)
    return Stage(stage.name, stage.detail, outputs, sum(parameters(getattr(model, stage.module))), macs)


def _transform(model: Detector, height: int, width: int) -> tuple[Stage, tuple[int, int]]:
    """The first stage, and the smallest canvas for the image. MACs are counted for this canvas."""
    options = model.config.transform
    resized = resized_size(height, width, options.min_size, options.max_size, enlarge=options.enlarge)
    if min(resized) < 1:
        raise ValueError(f"an image of {height}x{width} has no pixels after resizing to {resized[0]}x{resized[1]}")
    canvas = (align(resized[0]), align(resized[1]))
    usual = choose_canvas(resized, canvases(options.min_size, options.max_size))
    detail = f"shorter side to {options.min_size}, longer side to at most {options.max_size}; padded to multiples of 32"
    note = "" if usual == canvas else f"jaxdet.predict uses its next larger canvas, {usual[0]}x{usual[1]}"
    outputs = (
        Output("image", (3, height, width)),
        Output("resized", (3, *resized)),
        Output("canvas", (3, *canvas), note),
    )
    return Stage("Transform", detail, outputs), canvas

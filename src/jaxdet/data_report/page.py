"""A page with the first training images as the model sees them, for a visual check of the data before a run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from jaxdet.data import LoadedBatch
from jaxdet.data.batching.sizing import ScaleJitter
from jaxdet.runs.config import TrainConfig
from jaxdet.runs.task import ClassificationTask, Task, open_task
from jaxdet.types import Images
from jaxdet.visualize import contact_sheet, draw_detections, save_image, titled

_TILE = 440  # pixels of a tile's longer side
_EDGE, _REGION = (255, 255, 255), (150, 150, 150)
_DASH = 6
_TITLE = 12


def show(config: TrainConfig, path: str | Path, *, count: int = 12) -> None:
    """Draws the first ``count`` training images of a run as one page, augmented and resized, but not normalised.

    Each image is shown on its canvas, with a white line around its true size, boxes with class names, and ignored
    regions in dashed grey. Its title gives the file name, the image id, the scale relative to the stored image, and the
    number of boxes. A classifier's images have the class in the title.

    Args:
        path: the image file to write; its suffix selects the format.

    Raises:
        DataError: the data has faults, or is too small for a batch.
        ValueError: ``count`` is below 1, or the data does not fit the model.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    task = open_task(replace(config, val=None, workers=0))
    draw = _labelled_tile if isinstance(task, ClassificationTask) else _detection_tile
    tiles = [draw(task, batch, row) for batch, row in _rows(task, count)]
    save_image(contact_sheet(tiles, math.ceil(math.sqrt(len(tiles)))), path)


def _rows(task: Task, count: int) -> Iterator[tuple[LoadedBatch, int]]:
    batches = task.batches(0)
    try:
        for batch in batches:
            for row in range(len(batch.indices)):
                yield batch, row
                count -= 1
                if count == 0:
                    return
    finally:
        batches.close()


def _detection_tile(task: Task, batch: LoadedBatch, row: int) -> np.ndarray:
    record = task.train.records[int(batch.indices[row])]
    targets = batch.targets
    boxes, labels, valid, ignored = (
        np.asarray(part[row]) for part in (targets.boxes, targets.labels, targets.valid, targets.ignored)
    )
    height, width = np.asarray(batch.images.sizes[row]).tolist()
    tile, ratio = _tile(task, batch.images, row)
    tile = _marked(tile, (height * ratio, width * ratio), boxes[ignored] * ratio)
    tile = draw_detections(tile, boxes[valid] * ratio, labels[valid], names=task.names)
    held = f"boxes {valid.sum()}" + (f", ignored {ignored.sum()}" if ignored.any() else "")
    scale = _scale(record.size, (height, width), task.plan.sizing)
    return titled(tile, f"{Path(record.path).name}  id {record.image_id}  {scale}  {held}", size=_TITLE)


def _labelled_tile(task: Task, batch: LoadedBatch, row: int) -> np.ndarray:
    record = task.train.records[int(batch.indices[row])]
    tile, _ = _tile(task, batch.images, row)
    return titled(tile, f"{task.names[int(batch.targets[row])]}  {Path(record.path).name}", size=_TITLE)


def _tile(task: Task, images: Images, row: int) -> tuple[np.ndarray, float]:
    """A row's whole canvas, resized to a tile, and the tile's scale relative to the canvas."""
    transform: Any = task.config.model.transform
    pixels = np.asarray(images.pixels[row]) * np.array(transform.image_std, np.float32)
    canvas = ((pixels + np.array(transform.image_mean, np.float32)) * 255).round().clip(0, 255).astype(np.uint8)
    ratio = _TILE / max(canvas.shape[:2])
    size = (round(canvas.shape[1] * ratio), round(canvas.shape[0] * ratio))
    return np.asarray(Image.fromarray(canvas).resize(size, Image.Resampling.LANCZOS)), ratio


def _scale(stored: Sequence[int], shown: tuple[int, int], sizing: Any) -> str:
    """The scale of a shown image relative to the stored one; a lower bound ("+") if it was cropped on both sides."""
    least = max(after / before for after, before in zip(shown, stored, strict=True))
    cropped = isinstance(sizing, ScaleJitter) and shown == sizing.size
    return f"x{least:.2f}{'+' if cropped else ''}"


def _marked(tile: np.ndarray, true_size: Sequence[float], regions: np.ndarray) -> np.ndarray:
    """Draws a line around ``true_size`` (height, width) and dashes around regions [I, 4], in pixels of the tile."""
    image = Image.fromarray(tile)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, round(true_size[1]) - 1, round(true_size[0]) - 1), outline=_EDGE)
    for x1, y1, x2, y2 in regions.round().astype(int).tolist():
        for x in range(x1, x2, 2 * _DASH):
            for y in (y1, y2 - 1):
                draw.line((x, y, min(x + _DASH, x2), y), fill=_REGION, width=2)
        for y in range(y1, y2, 2 * _DASH):
            for x in (x1, x2 - 1):
                draw.line((x, y, x, min(y + _DASH, y2)), fill=_REGION, width=2)
    return np.asarray(image)

"""Runs a detector that was exported with ``jaxdet export``. Needs jax, flatbuffers and numpy, but not jaxdet.

``jaxdet export`` writes a copy of this file next to the program, so that it runs on a machine without jaxdet::

    from reader import load_export
    detector = load_export("folder")
    (found,) = detector.detect([image])       # [H, W, 3] uint8 RGB

The folder holds ``program.bin`` (`jax.export`), ``weights.npz`` and ``export.json``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

FORMAT = 1
PROGRAM, WEIGHTS, DESCRIPTION = "program.bin", "weights.npz", "export.json"
OUTPUTS = ("boxes", "scores", "labels", "valid")


def load_export(folder: str | os.PathLike[str]) -> ExportedDetector:
    """Opens an exported detector.

    Raises:
        ValueError: the folder has none, or this version of JAX or this platform cannot run it.
    """
    place = Path(folder)
    try:
        description = json.loads((place / DESCRIPTION).read_text())
        if description["format"] != FORMAT:
            raise ValueError(f"its format is {description['format']}, but this reader reads {FORMAT}")
        program = (place / PROGRAM).read_bytes()
        with np.load(place / WEIGHTS, allow_pickle=False) as arrays:
            weights = [arrays[entry["name"]] for entry in description["weights"]]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{folder} is not an exported detector: {error}. Write one with jaxdet export") from None
    return ExportedDetector(description, program, weights)


class ExportedDetector:
    """A compiled detector for one batch size and one canvas.

    Attributes:
        batch: number of images per call; canvas: its (height, width).
        names: class names, the background first; empty if the model has none.
        description: the content of ``export.json``.
    """

    def __init__(self, description: dict[str, Any], program: bytes, weights: Sequence[np.ndarray]) -> None:
        try:
            from jax import export

            exported = export.deserialize(bytearray(program))
        except ModuleNotFoundError as error:
            raise ValueError(f"reading an exported program needs {error.name}: pip install {error.name}") from None
        platform = jax.default_backend().replace("gpu", "cuda")
        if platform not in exported.platforms:
            raise ValueError(f"this program was exported for {', '.join(exported.platforms)}, but this is {platform}")
        self.description = description
        self.batch: int = description["batch"]
        self.canvas: tuple[int, int] = tuple(description["canvas"])
        self.names: tuple[str, ...] = tuple(description["names"])
        self._run = jax.jit(exported.call)
        self._weights = [jax.device_put(array) for array in weights]

    def __call__(self, pixels: Any, sizes: Any) -> dict[str, jax.Array]:
        """Detections of a batch, padded.

        Args:
            pixels: ``[B, H, W, 3]`` float32, normalised; values beyond the size of an image are ignored.
            sizes: ``[B, 2]`` int32, the (height, width) of each image.

        Returns:
            ``boxes [B, D, 4]`` xyxy in pixels of the canvas, ``scores [B, D]``, ``labels [B, D]`` and
            ``valid [B, D]``.

        Raises:
            ValueError: the program was exported for another batch size or canvas.
        """
        expected = (self.batch, *self.canvas, 3)
        if tuple(pixels.shape) != expected or tuple(sizes.shape) != (self.batch, 2):
            height, width = self.canvas
            raise ValueError(
                f"this program takes pixels {list(expected)} and sizes [{self.batch}, 2], not {list(pixels.shape)} and "
                f"{list(sizes.shape)}: it was exported for batches of {self.batch} on a canvas of {height}x{width}; "
                "jaxdet export --batch N --canvas HxW writes another"
            )
        found = self._run(self._weights, pixels, sizes)
        return dict(zip(OUTPUTS, found, strict=True))

    def detect(self, images: Sequence[np.ndarray], *, score_threshold: float = 0.0) -> list[dict[str, Any]]:
        """Detections in images ``[H, W, 3]`` RGB uint8 of any sizes, in pixels of each image.

        Returns:
            Per image ``boxes [D, 4]`` xyxy, ``labels [D]`` and ``scores [D]`` by decreasing score, and ``names`` if the
            model has class names.

        Raises:
            ValueError: an array is not an RGB image, or the resized image does not fit on the canvas.
        """
        results: list[dict[str, Any]] = []
        for start in range(0, len(images), self.batch):
            part = images[start : start + self.batch]
            pixels = np.zeros((self.batch, *self.canvas, 3), np.float32)
            sizes = np.zeros((self.batch, 2), np.int32)
            for slot, image in enumerate(part):
                resized = self._prepare(np.asarray(image), start + slot)
                height, width = sizes[slot] = resized.shape[:2]
                pixels[slot, :height, :width] = resized
            found = {name: np.asarray(array) for name, array in self(pixels, sizes).items()}
            for slot, image in enumerate(part):
                row = {name: array[slot] for name, array in found.items()}
                results.append(self._result(row, sizes[slot], image.shape[:2], score_threshold))
        return results

    def _prepare(self, image: np.ndarray, index: int) -> np.ndarray:
        """Scales to 0..1, normalises and resizes an image: ``[h, w, 3]`` float32."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"image {index} is {image.dtype} {image.shape}; expected uint8 [height, width, 3]")
        transform = self.description["transform"]
        height, width = image.shape[:2]
        scale = min(transform["min_size"] / min(height, width), transform["max_size"] / max(height, width))
        scale = scale if transform["enlarge"] else min(scale, 1.0)
        size = math.floor(height * scale), math.floor(width * scale)
        if not (1 <= size[0] <= self.canvas[0] and 1 <= size[1] <= self.canvas[1]):
            raise ValueError(
                f"image {index}, {height}x{width}, is resized to {size[0]}x{size[1]}, but this program's canvas is "
                f"{self.canvas[0]}x{self.canvas[1]}; jaxdet export --canvas HxW writes another"
            )
        mean, std = (np.asarray(transform[name], np.float32) for name in ("image_mean", "image_std"))
        pixels = (image.astype(np.float32) / np.float32(255) - mean) / std
        # The axis that shrinks most is first; the order also determines how sums are rounded.
        axes = (0, 1) if size[0] * width < size[1] * height else (1, 0)
        for axis in axes:
            pixels = _interpolate(pixels, axis, size[axis])
        return pixels

    def _result(
        self, row: dict[str, np.ndarray], size: np.ndarray, original: tuple[int, ...], threshold: float
    ) -> dict[str, Any]:
        kept = row["valid"] & (row["scores"] > threshold)
        ratio = np.asarray(original, np.float32) / size.astype(np.float32)  # (height, width)
        labels = row["labels"][kept]
        result = {
            "boxes": row["boxes"][kept] * ratio[[1, 0, 1, 0]],
            "labels": labels,
            "scores": row["scores"][kept],
        }
        return result | {"names": [self.names[label] for label in labels]} if self.names else result


def _interpolate(image: np.ndarray, axis: int, count: int) -> np.ndarray:
    """Linear interpolation along one axis to ``count`` points, as in PyTorch's ``interpolate`` without antialiasing."""
    length = image.shape[axis]
    if length == count:
        return image
    one = np.float32
    position = (np.float64(one(length) / one(count)) * (np.arange(count, dtype=one) + one(0.5)) - 0.5).astype(one)
    position = np.maximum(position, one(0))
    low = np.minimum(position.astype(np.int64), length - 1)
    weight = np.clip(position - low.astype(one), one(0), one(1)).reshape([-1 if i == axis else 1 for i in range(3)])
    high = np.minimum(low + 1, length - 1)
    return np.take(image, low, axis) * (1 - weight) + np.take(image, high, axis) * weight

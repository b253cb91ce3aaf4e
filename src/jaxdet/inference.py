"""Pictures of any size in, detections in each picture's own pixels out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import Array
from jax.sharding import Mesh

from jaxdet.backbones.base import Classifier
from jaxdet.config import override
from jaxdet.data.canvas import canvases, choose_canvas
from jaxdet.data.transforms import centre_crop, preprocess_to, resize_boxes
from jaxdet.detectors import DetectorTransform, FasterRCNN
from jaxdet.ops.resize import resized_size
from jaxdet.types import Detections, Images

Prediction = dict[str, Any]


@partial(jax.jit, static_argnums=(0,), static_argnames=("mesh",))
def infer_step(graphdef: nnx.GraphDef, state: nnx.State, images: Images, *, mesh: Mesh | None = None) -> Detections:
    """The compiled forward pass of ``nnx.split(model)``; compiles once a model and canvas."""
    return nnx.merge(graphdef, state)(images, mesh=mesh)


def with_options(model: FasterRCNN, **options: Any) -> FasterRCNN:
    """The same parameters under other options that do not shape them (``box_score_thresh``, ``min_size``, ...)."""
    copy = nnx.merge(*nnx.split(model))
    copy.config = override(model.config, options)
    return copy


def predict(
    model: FasterRCNN,
    images: Sequence[np.ndarray],
    *,
    score_threshold: float | None = None,
    batch_size: int = 1,
) -> list[Prediction]:
    """Detect objects in pictures.

    Args:
        images: ``[H, W, 3]`` RGB arrays of any sizes, uint8 or float in 0..1. They are resized as torchvision does and
            put on a small set of canvases; each compiles once.
        score_threshold: of the detections returned; by default the model's ``box_score_thresh``.
        batch_size: pictures of one canvas that go through the model together.

    Returns:
        Per picture a dict of numpy ``boxes [D, 4]`` (xyxy, its own pixels), ``labels [D]`` and ``scores [D]``, by
        decreasing score, and ``names`` (a list) where the model knows its classes.
    """
    if score_threshold is not None and score_threshold < model.config.box.score_thresh:
        model = with_options(model, box_score_thresh=score_threshold)
    if batch_size < 1:
        raise ValueError(f"batch_size is at least 1, not {batch_size}")
    transform = model.config.transform
    pictures = [_checked(image, index) for index, image in enumerate(images)]
    choices = canvases(transform.min_size, transform.max_size)
    groups: dict[tuple[int, int], list[int]] = {}
    for index, picture in enumerate(pictures):
        size = _size(picture, transform)
        if min(size) < 1:
            raise ValueError(f"image {index} of {picture.shape[:2]} would be resized to {size}, which has no pixels")
        groups.setdefault(choose_canvas(size, choices), []).append(index)

    graphdef, state = nnx.split(model)
    results: list[Prediction] = [{} for _ in pictures]
    for canvas, members in groups.items():
        for start in range(0, len(members), batch_size):
            rows = members[start : start + batch_size]
            resized = [_preprocess(pictures[row], transform) for row in rows]
            batch = collate(resized, canvas, batch_size)
            detections = jax.device_get(infer_step(graphdef, state, batch))
            for slot, row in enumerate(rows):
                found = jax.tree.map(lambda x, slot=slot: x[slot], detections)
                results[row] = _prediction(found, resized[slot], pictures[row], model.config.names, score_threshold)
    return results


def collate(pictures: Sequence[np.ndarray], canvas: tuple[int, int], batch_size: int) -> Images:
    """Preprocessed pictures ``[h, w, 3]`` on one canvas; slots that are left over are empty."""
    pixels = np.zeros((batch_size, *canvas, 3), np.float32)
    sizes = np.zeros((batch_size, 2), np.int32)
    for slot, picture in enumerate(pictures):
        height, width = picture.shape[:2]
        pixels[slot, :height, :width] = picture
        sizes[slot] = height, width
    return Images(pixels, sizes)  # type: ignore[arg-type]  # numpy until it reaches a device


def _checked(image: np.ndarray, index: int) -> np.ndarray:
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"image {index} has shape {image.shape}; expected RGB [height, width, 3]")
    if image.dtype == np.uint8:
        return image
    if not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"image {index} is of type {image.dtype}; expected uint8, or float in 0..1")
    if not (image.min() >= 0 and image.max() <= 1):
        raise ValueError(f"image {index} is float but not in 0..1; give uint8 for values up to 255")
    return image.astype(np.float32)


def _preprocess(picture: np.ndarray, transform: DetectorTransform) -> np.ndarray:
    return preprocess_to(picture, _size(picture, transform), mean=transform.image_mean, std=transform.image_std)


def _size(picture: np.ndarray, transform: DetectorTransform) -> tuple[int, int]:
    height, width = picture.shape[:2]
    return resized_size(height, width, transform.min_size, transform.max_size, enlarge=transform.enlarge)


def _prediction(
    found: Detections, resized: np.ndarray, picture: np.ndarray, names: tuple[str, ...], threshold: float | None
) -> Prediction:
    keep = np.asarray(found.valid)
    scores = np.asarray(found.scores)
    if threshold is not None:
        keep = keep & (scores > threshold)
    boxes = resize_boxes(np.asarray(found.boxes)[keep], resized.shape[:2], picture.shape[:2])
    labels = np.asarray(found.labels)[keep]
    result: Prediction = {"boxes": boxes, "labels": labels, "scores": scores[keep]}
    if names:
        result["names"] = [names[label] for label in labels]
    return result


@partial(jax.jit, static_argnums=(0,))
def logits_step(graphdef: nnx.GraphDef, state: nnx.State, x: Array) -> Array:
    """The compiled forward pass of a classifier's ``nnx.split(model)``: normalised ``[B, H, W, 3]`` to ``[B, K]``."""
    return nnx.merge(graphdef, state)(x)


def classify(model: Classifier, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Class probabilities ``[K]`` of each picture (``[H, W, 3]`` RGB uint8, any size).

    The shorter side is resized and the centre cut out as the model's ``config.transform`` says, with Pillow's bilinear
    filter, which is what torchvision's classification presets use.
    """
    graphdef, state = nnx.split(model)
    transform = model.config.transform  # type: ignore[attr-defined]
    results = []
    for image in images:
        x = centre_crop(image, transform.resize, transform.crop, transform.image_mean, transform.image_std)
        results.append(np.asarray(jax.nn.softmax(logits_step(graphdef, state, x[None])[0])))
    return results

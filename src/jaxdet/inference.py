"""Inference on images of any size, with detections in pixels of each image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import jax
import numpy as np
from flax import nnx
from jax import Array
from jax.sharding import Mesh

from jaxdet.backbones.base import Classifier
from jaxdet.base import Model, ModelConfig, Task, check_task
from jaxdet.compiling import Compilations, Say
from jaxdet.data.arrays import checked_images, checked_pixels
from jaxdet.data.batching.canvas import canvases, choose_canvas
from jaxdet.data.transforms import centre_crop, preprocess_to, resize_boxes
from jaxdet.models import Detector, DetectorTransform, abstract
from jaxdet.models.classes import check_classes
from jaxdet.models.fit import check_fit, unlike, wanted_shapes
from jaxdet.models.options import override_model
from jaxdet.nn.parameters import arrays, fill, shapes
from jaxdet.ops.resize import resized_size
from jaxdet.parallel import batch_sharding, replicated
from jaxdet.types import Detections, Images

Prediction = dict[str, Any]
Key = TypeVar("Key")
AnyModel = TypeVar("AnyModel", bound=Model)


@partial(jax.jit, static_argnums=(0,), static_argnames=("mesh",))
def infer_step(graphdef: nnx.GraphDef, state: nnx.State, images: Images, *, mesh: Mesh | None = None) -> Detections:
    """The compiled forward pass of ``nnx.split(model)``. It is compiled once per model, batch size and canvas."""
    return nnx.merge(graphdef, state)(images, mesh=mesh)


def with_options(model: AnyModel, **options: Any) -> AnyModel:
    """The model with other options, which must not change its parameters (``box_score_thresh``, ``min_size``, ...).

    Args:
        options: see `jaxdet.models.model_config`.

    Raises:
        ValueError: an option is unknown, or changes names or shapes of parameters (``num_classes``,
            ``box_representation_size``, the number of anchors), which needs a new model.
    """
    old = model.config
    if options.get("num_classes", old.num_classes) != old.num_classes:
        raise ValueError(
            f"num_classes is {old.num_classes} and cannot be changed on an existing model: use jaxdet.with_classes"
        )
    new = override_model(old, options)
    if old.architecture() == new.architecture():
        return under_config(model, new)
    wanted = wanted_shapes(new, model)
    if wanted != shapes(model):
        difference = unlike(wanted_shapes(old, model), wanted, of="this model", by="these options")
        if difference is not None:
            raise ValueError(
                f"{', '.join(options)}: options that shape parameters cannot be changed on an existing model: "
                f"{difference}. Give them to jaxdet.create_model"
            )
    check_fit(model)
    changed = fill(abstract(new, numerics=model.numerics, backbone=getattr(model, "backbone", None)), arrays(model))
    changed.origin = model.origin
    return changed


def under_config(model: AnyModel, config: ModelConfig) -> AnyModel:
    """The model with another configuration, which must have the same `ModelConfig.architecture`."""
    copy: AnyModel = nnx.merge(*nnx.split(model))
    copy.config = config  # type: ignore[assignment]
    return copy


def predict(
    model: Detector,
    images: Sequence[np.ndarray],
    *,
    score_threshold: float | None = None,
    batch_size: int = 1,
) -> list[Prediction]:
    """Detects objects in images.

    Args:
        images: ``[H, W, 3]`` RGB arrays of any sizes, uint8 or float in 0..1 (`jaxdet.data.read_image` reads a file).
            They are resized as in torchvision and padded to one of a few canvases. The model is compiled once per
            canvas.
        score_threshold: detections with higher scores are returned; by default the model's ``box_score_thresh``.
        batch_size: the number of images of one canvas that go through the model together. The last batch of a canvas
            is filled with empty slots, which cost as much as images. On a CPU, 1 is as fast as any other.

    Returns:
        For each image, a dict of numpy arrays ``boxes [D, 4]`` (xyxy, in pixels of the image), ``labels [D]`` and
        ``scores [D]``, by decreasing score, and ``names`` (a list) if the model has class names. An empty list for no
        images.

    Raises:
        ValueError: the model is not a detector, or an array is not an image; the message says how to correct it.
    """
    _check_detector(model)
    checked = checked_images(images)
    for index, image in enumerate(checked):
        _check_size(model, image, f"image {index}")
    found = predict_each(model, enumerate(checked), score_threshold=score_threshold, batch_size=batch_size)
    return [prediction for _, prediction in sorted(found, key=lambda item: item[0])]


def predict_each(
    model: Detector,
    images: Iterable[tuple[Key, np.ndarray]],
    *,
    score_threshold: float | None = None,
    batch_size: int = 1,
    mesh: Mesh | None = None,
    say: Say | None = None,
) -> Iterator[tuple[Key, Prediction]]:
    """`predict` for a stream of images, of which only a few are in memory at a time.

    An image waits until there are ``batch_size`` images of its canvas, or no more images. So the order of the results
    may differ from that of the images.

    Args:
        images: pairs of a key and an image, which are consumed only as fast as they are processed.
        mesh: from `jaxdet.parallel.data_mesh`, over devices of this process: each batch is split over them.
        say: called with a message before the program of a canvas is compiled.

    Yields:
        Pairs of an image's key and its detections.

    Raises:
        ValueError: the model is not a detector, an array is not an image, the batch size is below 1 or does not divide
            over the devices, or the predictor has another number of classes than the model's configuration.
    """
    _check_detector(model)
    if score_threshold is not None and score_threshold < model.config.score_threshold:
        model = under_config(model, model.config.with_score_threshold(score_threshold))
    check_classes(model)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if mesh is not None and batch_size % mesh.size:
        raise ValueError(f"batch_size={batch_size} does not divide over {mesh.size} devices")
    transform = model.config.transform
    choices = canvases(transform.min_size, transform.max_size)
    graphdef, state = nnx.split(model)
    compilations = Compilations()
    if mesh is not None:
        state = jax.device_put(state, replicated(mesh))

    def run(canvas: tuple[int, int], waiting: list[tuple[Key, np.ndarray]]) -> Iterator[tuple[Key, Prediction]]:
        resized = [_preprocess(image, transform) for _, image in waiting]
        batch = collate(resized, canvas, batch_size)
        compilations.announce(None, canvas, say)
        if mesh is not None:
            batch = jax.device_put(batch, batch_sharding(mesh))
        detections = jax.device_get(infer_step(graphdef, state, batch, mesh=mesh))
        for slot, (key, image) in enumerate(waiting):
            found = jax.tree.map(lambda x, slot=slot: x[slot], detections)
            yield key, _to_prediction(found, resized[slot], image, model.config.names, score_threshold)

    groups: dict[tuple[int, int], list[tuple[Key, np.ndarray]]] = {}
    for key, image in images:
        image = checked_image(model, image)
        canvas = choose_canvas(_resized_size(image, transform), choices)
        waiting = groups.setdefault(canvas, [])
        waiting.append((key, image))
        if len(waiting) == batch_size:
            yield from run(canvas, groups.pop(canvas))
    for canvas, waiting in groups.items():
        yield from run(canvas, waiting)


def checked_image(model: Detector, image: np.ndarray, name: str = "the image") -> np.ndarray:
    """Checks an image and returns it as uint8, or float32 in 0..1.

    Raises:
        ValueError: it is not an image, or the model would resize it to a size without pixels.
    """
    image = checked_pixels(image, name)
    _check_size(model, image, name)
    return image


def _check_size(model: Detector, image: np.ndarray, name: str) -> None:
    size = _resized_size(image, model.config.transform)
    if min(size) < 1:
        raise ValueError(f"{name} of {image.shape[:2]} would be resized to {size}, which has no pixels")


def collate(images: Sequence[np.ndarray], canvas: tuple[int, int], batch_size: int) -> Images:
    """A batch of preprocessed images ``[h, w, 3]`` on one canvas; the remaining slots are empty."""
    pixels = np.zeros((batch_size, *canvas, 3), np.float32)
    sizes = np.zeros((batch_size, 2), np.int32)
    for slot, image in enumerate(images):
        height, width = image.shape[:2]
        pixels[slot, :height, :width] = image
        sizes[slot] = height, width
    return Images(pixels, sizes)  # type: ignore[arg-type]  # numpy until it reaches a device


def _check_detector(model: Any) -> None:
    check_task(model, Task.DETECTION, by="predict", use="classify")


def _preprocess(image: np.ndarray, transform: DetectorTransform) -> np.ndarray:
    return preprocess_to(image, _resized_size(image, transform), mean=transform.image_mean, std=transform.image_std)


def _resized_size(image: np.ndarray, transform: DetectorTransform) -> tuple[int, int]:
    height, width = image.shape[:2]
    return resized_size(height, width, transform.min_size, transform.max_size, enlarge=transform.enlarge)


def _to_prediction(
    found: Detections, resized: np.ndarray, image: np.ndarray, names: tuple[str, ...], threshold: float | None
) -> Prediction:
    keep = np.asarray(found.valid)
    scores = np.asarray(found.scores)
    if threshold is not None:
        keep = keep & (scores > threshold)
    boxes = resize_boxes(np.asarray(found.boxes)[keep], resized.shape[:2], image.shape[:2])
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
    """Class probabilities ``[K]`` of each image; an empty list for no images.

    Images are resized and cropped at the centre according to the model's ``config.transform``, with Pillow's bilinear
    filter, as in torchvision's classification presets.

    Args:
        images: ``[H, W, 3]`` RGB arrays of any sizes, uint8 or float in 0..1 (`jaxdet.data.read_image` reads a file).

    Raises:
        ValueError: the model is not a classifier, or an array is not an image; the message says how to correct it.
    """
    check_task(model, Task.CLASSIFICATION, by="classify", use="predict")
    images = checked_images(images)
    graphdef, state = nnx.split(model)
    transform = model.config.transform  # type: ignore[attr-defined]
    results = []
    for image in images:
        x = centre_crop(image, transform.resize, transform.crop, transform.image_mean, transform.image_std)
        results.append(np.asarray(jax.nn.softmax(logits_step(graphdef, state, x[None])[0])))
    return results

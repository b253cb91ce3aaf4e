"""Detections over a whole dataset and their metrics, COCO's or those of head detection; the accuracy of classifiers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.sharding import Mesh
from tqdm.auto import tqdm

from jaxdet.backbones.base import Classifier
from jaxdet.data import (
    Augmentation,
    ClassificationDataset,
    DetectionDataset,
    LoadedBatch,
    eval_plan,
    load_batches,
    resize_boxes,
)
from jaxdet.data.sizing import SquareCrop
from jaxdet.detectors import FasterRCNN
from jaxdet.evaluation import Accuracy, Evaluator, Metrics, make_evaluator
from jaxdet.inference import infer_step
from jaxdet.training import image_keys, losses_and_detections
from jaxdet.training.classification import cross_entropy
from jaxdet.training.losses import Losses
from jaxdet.types import Detections, Images, Targets


def evaluate(
    model: FasterRCNN,
    dataset: DetectionDataset,
    *,
    metrics: Metrics = "coco",
    batch_size: int = 8,
    category_ids: Sequence[int] | None = None,
    with_losses: bool = False,
    workers: int = 0,
    mesh: Mesh | None = None,
    progress: bool = True,
) -> tuple[dict[str, float], Evaluator]:
    """The metrics of a model on a dataset, and the evaluator with its detections.

    Args:
        metrics: ``"coco"``: its twelve numbers, and ``AP/<class>``; ``"heads"``: those of
            `jaxdet.evaluation.HeadResult`, of a dataset of one class.
        category_ids: the dataset's category id of each label of the model, by default those of the dataset's classes
            that the model knows by name (see `category_ids_of`).
        with_losses: also ``loss`` and its terms, means over the batches weighted by their pictures, from the same pass
            through the backbone. Sampling is drawn from a fixed key.
        workers: processes that decode; 0: threads.
        mesh: splits each batch over its devices.
    """
    transform = model.config.transform
    plan = eval_plan(dataset.sizes, batch_size, Augmentation().sizing(transform))
    ids = category_ids_of(model, dataset) if category_ids is None else category_ids
    evaluator = make_evaluator(metrics, dataset, ids)
    graphdef, state = nnx.split(model)
    sums: dict[str, float] = defaultdict(float)
    key = jax.random.key(0)
    batches = load_batches(
        dataset, plan, 0, len(plan), mean=transform.image_mean, std=transform.image_std, workers=workers
    )
    for batch in tqdm(batches, total=len(plan), desc="evaluate", unit="batch", disable=not progress, leave=False):
        if with_losses:
            keys = image_keys(key, jnp.int32(batch.step), batch_size)
            values, found = _losses_step(graphdef, state, batch.images, batch.targets, keys, mesh=mesh)
            for name, value in jax.device_get(values).items():
                sums[name] += float(value) * int((batch.indices >= 0).sum())
        else:
            found = infer_step(graphdef, state, batch.images, mesh=mesh)
        _collect(evaluator, dataset, batch, jax.device_get(found))
    numbers = evaluator.evaluate()
    if with_losses:
        means = {name: value / len(dataset) for name, value in sums.items()}
        numbers |= {"loss": sum(means.values()), **means}
    return numbers, evaluator


def _collect(evaluator: Evaluator, dataset: DetectionDataset, batch: LoadedBatch, found: Any) -> None:
    for row, index in enumerate(batch.indices):
        if index < 0:
            continue
        record = dataset.records[index]
        boxes = resize_boxes(np.asarray(found.boxes[row]), np.asarray(batch.images.sizes[row]).tolist(), record.size)
        evaluator.add(record.image_id, boxes, found.scores[row], found.labels[row], valid=found.valid[row])


@partial(jax.jit, static_argnums=(0,), static_argnames=("mesh",))
def _losses_step(
    graphdef: nnx.GraphDef, state: nnx.State, images: Images, targets: Targets, keys: Array, *, mesh: Mesh | None
) -> tuple[Losses, Detections]:
    return losses_and_detections(nnx.merge(graphdef, state), images, targets, keys, mesh=mesh)


def evaluate_classifier(
    model: Classifier,
    dataset: ClassificationDataset,
    *,
    batch_size: int = 64,
    workers: int = 0,
    progress: bool = True,
) -> dict[str, float]:
    """``top1`` and ``top5`` accuracy (0..1) of a classifier, and its mean cross-entropy as ``loss``."""
    transform = model.config.transform  # type: ignore[attr-defined]
    plan = eval_plan(len(dataset), batch_size, SquareCrop(transform.resize, transform.crop))
    graphdef, state = nnx.split(model)
    accuracy, total = Accuracy(), 0.0
    batches = load_batches(
        dataset, plan, 0, len(plan), mean=transform.image_mean, std=transform.image_std, workers=workers
    )
    for batch in tqdm(batches, total=len(plan), desc="evaluate", unit="batch", disable=not progress, leave=False):
        logits, loss = jax.device_get(_logits_and_loss(graphdef, state, batch.images, batch.targets))
        accuracy.add(logits, np.asarray(batch.targets))
        total += float(loss) * int((batch.indices >= 0).sum())
    return {**accuracy.result(), "loss": total / len(dataset)}


@partial(jax.jit, static_argnums=(0,))
def _logits_and_loss(graphdef: nnx.GraphDef, state: nnx.State, images: Images, labels: Array) -> tuple[Array, Array]:
    model = nnx.merge(graphdef, state)
    logits = model(images.pixels.astype(model.numerics.dtype))
    return logits, cross_entropy(logits, labels)


def category_ids_of(model: FasterRCNN, dataset: DetectionDataset) -> tuple[int, ...]:
    """The data set's category id of each label of a model: by class name where the model knows its names.

    Raises:
        ValueError: the model lacks a class of the data set, or has no names and another number of classes.
    """
    names, num_classes = model.config.names, model.config.num_classes
    if names:
        return match_classes(names, dataset)
    if num_classes != len(dataset.names):
        raise ValueError(
            f"the model has {num_classes} classes and the data set {len(dataset.names)}, background included"
        )
    return dataset.category_ids


def match_classes(names: Sequence[str], dataset: DetectionDataset) -> tuple[int, ...]:
    """The data set's category id of each named label, -1 for the background and for names that it lacks.

    Raises:
        ValueError: the data set has classes that are not among the names.
    """
    by_name = dict(zip(dataset.names, dataset.category_ids, strict=True))
    missing = [name for name in dataset.names[1:] if name not in names]
    if missing:
        raise ValueError(
            f"the data set has classes that the model lacks: {', '.join(missing)}; the model knows "
            f"{', '.join(names[1:])}. Evaluate on a set without them, or train on one that has them"
        )
    return (-1, *(by_name.get(name, -1) for name in names[1:]))

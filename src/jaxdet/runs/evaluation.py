"""Evaluation on a dataset: detections and their metrics, or the accuracy of classifiers.

Each process evaluates its rows of every batch. At the end, processes exchange their detections, so that all have all
detections, in the order of a single process, and compute the same metrics.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import Array
from jax.sharding import Mesh
from tqdm.auto import tqdm

from jaxdet.backbones.base import Classifier
from jaxdet.base import Losses
from jaxdet.compiling import Compilations, say_beside_bars
from jaxdet.data import (
    Augmentation,
    ClassificationDataset,
    DetectionDataset,
    EvalPlan,
    LoadedBatch,
    eval_plan,
    load_batches,
    resize_boxes,
)
from jaxdet.data.batching.sizing import SquareCrop
from jaxdet.evaluation import Accuracy, Evaluator, make_evaluator
from jaxdet.inference import infer_step
from jaxdet.models import Detector
from jaxdet.models.classes import check_classes
from jaxdet.ops.cross_entropy import cross_entropy
from jaxdet.parallel import check_division, copy_to, fetch_rows, gather, gather_arrays, local_rows, split
from jaxdet.runs.classes import category_ids_of, labels_of
from jaxdet.training import image_keys
from jaxdet.types import Detections, Images, Targets


def evaluate(
    model: Detector,
    dataset: DetectionDataset,
    *,
    metrics: str = "coco",
    max_dets: int | None = None,
    batch_size: int = 8,
    category_ids: Sequence[int] | None = None,
    with_losses: bool = False,
    workers: int = 0,
    mesh: Mesh | None = None,
    progress: bool = True,
) -> tuple[dict[str, float], Evaluator]:
    """The metrics of a model on a dataset, and the evaluator with its detections.

    Args:
        metrics: ``"coco"``: COCO's twelve metrics, and ``AP/<class>``; ``"crowd"``: those of
            `jaxdet.evaluation.HeadResult`, for a dataset of one class.
        max_dets: maximum number of detections per class and image that COCO's metrics use; None: COCO's 100. The model
            returns at most ``box_detections_per_img`` (see `jaxdet.inference.with_options`);
            `jaxdet.evaluation.limit_notes` reports images with more objects.
        category_ids: the dataset's category id for each label of the model, by default matched by class name (see
            `category_ids_of`).
        with_losses: also compute ``loss`` and its terms (means over the images) in the same pass through the backbone.
            Sampling uses a fixed key.
        workers: number of processes that decode; 0: threads.
        mesh: the devices over which each batch is split, of one process or of several.

    Raises:
        ValueError: the batch does not divide over the devices, the classes of model and data do not match, or the
            predictor has another number of classes than the model's configuration.
    """
    check_division("batch_size", batch_size, mesh)
    check_classes(model)
    transform = model.config.transform
    plan = eval_plan(dataset.sizes, batch_size, Augmentation().sizing(transform))
    ids = category_ids_of(model, dataset) if category_ids is None else category_ids
    evaluator = make_evaluator(metrics, dataset, ids, max_dets=max_dets)
    graphdef, state = _on_mesh(model, mesh)
    program = hash(graphdef)
    sums: dict[str, float] = defaultdict(float)
    rows = local_rows(batch_size, mesh)
    parts = [np.zeros(0, _FOUND)]
    for batch in _batches(dataset, plan, transform, rows, workers=workers, progress=progress):
        _announce(("losses" if with_losses else "detections", batch_size, program), batch, progress)
        images, targets = split((batch.images, batch.targets), batch_size, mesh)
        if with_losses:
            values, found = _losses_step(graphdef, state, images, targets, np.int32(batch.step), mesh=mesh)
            for name, value in jax.device_get(values).items():
                sums[name] += float(value) * int((plan.batch(batch.step).indices >= 0).sum())
        else:
            found = infer_step(graphdef, state, images, mesh=mesh)
        parts += _found(dataset, batch, fetch_rows(found, rows), batch.step * batch_size + rows.start)
    for one in _by_place(gather_arrays(np.concatenate(parts))):
        record = dataset.records[plan.batch(one["place"][0] // batch_size).indices[one["place"][0] % batch_size]]
        evaluator.add(record.image_id, one["box"], one["score"], one["label"])
    numbers = evaluator.evaluate()
    if with_losses:
        means = {name: value / len(dataset) for name, value in sums.items()}
        numbers |= {"loss": sum(means.values()), **means}
    return numbers, evaluator


_compilations = Compilations("evaluation")  # shared by all evaluations of this process


def _announce(program: tuple[object, ...], batch: LoadedBatch, progress: bool) -> None:
    _compilations.announce(program, batch.images.pixels.shape[1:3], say_beside_bars if progress else None)


# A detection; place: position of its image in the evaluation plan, step x batch size + row.
_FOUND = np.dtype([("place", np.int64), ("box", np.float64, 4), ("score", np.float64), ("label", np.int64)])


def _found(dataset: DetectionDataset, batch: LoadedBatch, found: Detections, place: int) -> Iterator[np.ndarray]:
    """The detections of each image of a batch, in pixels of the image; ``place``: of the first row."""
    for row, index in enumerate(batch.indices):
        if index < 0:
            continue
        keep = np.asarray(found.valid[row])
        size = np.asarray(batch.images.sizes[row]).tolist()
        own = np.zeros(int(keep.sum()), _FOUND)
        own["place"] = place + row
        own["box"] = resize_boxes(np.asarray(found.boxes[row]), size, dataset.records[index].size)[keep]
        own["score"], own["label"] = found.scores[row][keep], found.labels[row][keep]
        yield own


def _by_place(found: np.ndarray) -> list[np.ndarray]:
    """The detections of each image with detections, in the order of the plan."""
    if not len(found):
        return []
    found = found[np.argsort(found["place"], kind="stable")]
    return np.split(found, np.flatnonzero(np.diff(found["place"])) + 1)


def _on_mesh(model: nnx.Module, mesh: Mesh | None) -> tuple[nnx.GraphDef, nnx.State]:
    graphdef, state = nnx.split(model)
    return graphdef, state if mesh is None else copy_to(state, mesh)


def _batches(
    dataset: Any, plan: EvalPlan, transform: Any, rows: slice, *, workers: int, progress: bool
) -> Iterable[LoadedBatch]:
    """This process's rows of all batches."""
    batches = load_batches(
        dataset, plan, 0, len(plan), mean=transform.image_mean, std=transform.image_std, rows=rows, workers=workers
    )
    return tqdm(batches, total=len(plan), desc="evaluate", unit="batch", disable=not progress, leave=False)


@partial(jax.jit, static_argnums=(0,), static_argnames=("mesh",))
def _losses_step(
    graphdef: nnx.GraphDef, state: nnx.State, images: Images, targets: Targets, step: Array, *, mesh: Mesh | None
) -> tuple[Losses, Detections]:
    keys = image_keys(jax.random.key(0), step, images.pixels.shape[0])
    return nnx.merge(graphdef, state).losses_and_detections(images, targets, keys, mesh=mesh)


def evaluate_classifier(
    model: Classifier,
    dataset: ClassificationDataset,
    *,
    batch_size: int = 64,
    workers: int = 0,
    mesh: Mesh | None = None,
    progress: bool = True,
) -> dict[str, float]:
    """``top1`` and ``top5`` accuracy (0..1) of a classifier, and its mean cross-entropy, ``loss``.

    Classes are matched by name if the model has names (`jaxdet.runs.classes.labels_of`).

    Args:
        mesh: the devices over which each batch is split.

    Raises:
        ValueError: the batch does not divide over the devices, or the classes of model and data do not match.
    """
    check_division("batch_size", batch_size, mesh)
    labels_by_class = np.array(labels_of(model, dataset), np.int32)
    transform = model.config.transform  # type: ignore[attr-defined]
    plan = eval_plan(len(dataset), batch_size, SquareCrop(transform.resize, transform.crop))
    graphdef, state = _on_mesh(model, mesh)
    program = hash(graphdef)
    accuracy, total = Accuracy(), 0.0
    rows = local_rows(batch_size, mesh)
    for batch in _batches(dataset, plan, transform, rows, workers=workers, progress=progress):
        _announce((batch_size, program), batch, progress)
        found = np.asarray(batch.targets)
        targets = np.where(found >= 0, labels_by_class[found], found)  # -1: a row without an image
        images, labels = split((batch.images, targets), batch_size, mesh)
        logits, loss = _logits_and_loss(graphdef, state, images, labels)
        accuracy.add(fetch_rows(logits, rows), targets)
        total += float(loss) * int((plan.batch(batch.step).indices >= 0).sum())
    accuracy.merge(gather(accuracy.counts))
    return {**accuracy.result(), "loss": total / len(dataset)}


@partial(jax.jit, static_argnums=(0,))
def _logits_and_loss(graphdef: nnx.GraphDef, state: nnx.State, images: Images, labels: Array) -> tuple[Array, Array]:
    model = nnx.merge(graphdef, state)
    logits = model(images.pixels.astype(model.numerics.dtype))
    return logits, cross_entropy(logits, labels)

"""Training tasks: the parts of a run that differ between detectors and classifiers."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from jaxdet.data import (
    BatchPlan,
    ClassificationDataset,
    DataError,
    DetectionDataset,
    Fault,
    FaultKind,
    LoadedBatch,
    load_batches,
)
from jaxdet.evaluation import Evaluator, limit_notes, make_evaluator
from jaxdet.models import Task as ModelTask
from jaxdet.models.classes import class_names
from jaxdet.parallel import local_rows
from jaxdet.runs.classes import match_classes
from jaxdet.runs.config import Length, TrainConfig, run_length
from jaxdet.runs.evaluation import evaluate, evaluate_classifier
from jaxdet.runs.start import model_for
from jaxdet.training import Objective, losses

PR_FILE = "precision_recall.png"
_SHOWN = {"coco": ("AP", "AP50", "AP75"), "crowd": ("AP", "LAMR", "MODA", "recall_300")}


class Task(ABC):
    """A configuration and its opened datasets.

    Attributes:
        train, val: the datasets; ``val`` may be None.
        names: the model's class names, for a detector including the background.
        objective: the loss of the train step.
        metric: the metric by which the best model is selected; shown: the metrics that are printed.
    """

    metric: str
    shown: tuple[str, ...]
    names: tuple[str, ...]
    objective: Objective = staticmethod(losses)

    def __init__(self, config: TrainConfig, train: Any, val: Any) -> None:
        self.config, self.train, self.val = config, train, val
        self.names = tuple(train.names)
        assert config.augment is not None  # set by TrainConfig
        self._transform = model_for(config, self.names).transform
        sizing = config.augment.sizing(self._transform, square=config.square)  # type: ignore[arg-type]
        self.plan = BatchPlan(self._sizes(), config.batch_size, sizing, seed=config.seed)

    @cached_property
    def length(self) -> Length:
        """The run's durations in steps."""
        return run_length(self.config, self.plan.steps_per_epoch)

    def summary(self) -> list[str]:
        """A description of the run, as lines of text."""
        config, steps = self.config, self.plan.steps_per_epoch
        left = len(self.train) - steps * config.batch_size
        skipped = getattr(self.train, "skipped", 0)
        left_out = f", {skipped} faulty boxes left out" if skipped else ""
        names = class_names(config.model, self.names)
        lines = [
            f"train       {len(self.train)} images{left_out}",
            f"validate    {'no validation set: see --val-fraction' if self.val is None else f'{len(self.val)} images'}",
            f"classes     {len(names)}: {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}",
            f"length      {self.length.steps} steps of {config.batch_size} ({steps} per epoch)",
        ]
        for name, dataset in (("train", self.train), ("val", self.val)):
            if dataset is not None:
                lines += [f"note        {fault}" for fault in set_faults(name, dataset)]
        if self.val is not None and self.length.eval_every is not None:
            every = f"{self.length.eval_every} steps ({config.eval_every})"
            lines.append(f"evaluate    every {every}, and at the end")
        lines += [
            f"schedule    the milestone {mark} is at step {step}, after the end, and has no effect"
            for mark, step in zip(config.optimizer.milestones, self.length.optimizer.milestones, strict=True)
            if config.optimizer.schedule == "multistep" and step >= self.length.steps  # type: ignore[operator]
        ]
        if left:
            lines.append(f"left out    {left} images per epoch (varying), which do not fill a batch of their canvas")
        return lines

    def batches(self, start: int, *, mesh: Mesh | None = None) -> Generator[LoadedBatch, None, None]:
        """The batches from step ``start`` to the end of the run. Closing the generator stops its workers.

        Args:
            mesh: the devices over which each batch is split; only the rows of this process are loaded.
        """
        yield from load_batches(
            self.train,
            self.plan,
            start,
            self.length.steps - start,
            augmentation=self.config.augment,
            mean=self._transform.image_mean,
            std=self._transform.image_std,
            max_boxes=self.config.max_boxes,
            rows=local_rows(self.config.batch_size, mesh),
            workers=self.config.workers,
        )

    def describe(self, indices: np.ndarray) -> list[str]:
        """Descriptions of the training images at these positions, for messages."""
        return [self._describe(self.train.records[index]) for index in indices.tolist() if index >= 0]

    def digest(self) -> str:
        """A short hash of the training set without its pixels: everything that batch plan and losses depend on."""
        digest = hashlib.sha256()
        for array in self._index():
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    @abstractmethod
    def evaluate(self, model: Any, *, mesh: Mesh | None = None, progress: bool = True) -> dict[str, float]:
        """The metrics of a model on the validation set."""

    @abstractmethod
    def plot(self, out: Path) -> None:
        """Draws the curves of the last evaluation into a folder."""

    @abstractmethod
    def _sizes(self) -> np.ndarray | int: ...

    @abstractmethod
    def _index(self) -> Iterator[np.ndarray]: ...

    @abstractmethod
    def _describe(self, record: Any) -> str: ...


class DetectionTask(Task):
    """Training of a detector. The metric is AP, from COCO's metrics or the crowd metrics."""

    metric = "AP"

    def __init__(self, config: TrainConfig, train: DetectionDataset, val: DetectionDataset | None) -> None:
        super().__init__(config, train, val)
        # Matched by name, as a validation set may have other ids. Errors are raised before the run.
        self._category_ids = None if val is None else match_classes(self.names, val)
        if val is not None:
            make_evaluator(config.metrics, val, self._category_ids)  # raises its errors before the run
        self.shown = _SHOWN[config.metrics]
        self._evaluator: Evaluator | None = None

    def summary(self) -> list[str]:
        lines = super().summary()
        if self.val is not None:
            config = self.config
            model: Any = config.model
            most = model.max_detections
            notes = limit_notes(self.val, most, metrics=config.metrics, max_dets=config.max_dets)
            lines += [f"note        {note}" for note in notes]
        return lines

    def evaluate(self, model: Any, *, mesh: Mesh | None = None, progress: bool = True) -> dict[str, float]:
        metrics, self._evaluator = evaluate(
            model,
            self.val,
            metrics=self.config.metrics,
            max_dets=self.config.max_dets,
            batch_size=self.config.eval_batch_size,
            category_ids=self._category_ids,
            with_losses=self.config.eval_losses,
            workers=self.config.workers,
            mesh=mesh,
            progress=progress,
        )
        return metrics

    def plot(self, out: Path) -> None:
        if self._evaluator is not None and any(len(record.truth.labels) for record in self.val.records):
            from jaxdet.plots import plot_evaluation  # matplotlib is slow to import

            plot_evaluation(self._evaluator, out / PR_FILE)

    def _sizes(self) -> np.ndarray:
        return self.train.sizes

    def _index(self) -> Iterator[np.ndarray]:
        for record in self.train.records:
            yield from (np.asarray(record.size), record.boxes, record.labels, record.ignored)

    def _describe(self, record: Any) -> str:
        return f"{record.image_id} ({record.path})"


class ClassificationTask(Task):
    """Training of a classifier. The metric is top-1 accuracy."""

    metric, shown = "top1", ("top1", "top5", "loss")

    def __init__(self, config: TrainConfig, train: ClassificationDataset, val: ClassificationDataset | None) -> None:
        super().__init__(config, train, val)
        self.objective = partial(losses, label_smoothing=config.label_smoothing)
        if val is not None and tuple(val.names) != self.names:
            differing = ", ".join(sorted(set(val.names) ^ set(self.names))) or "their order"
            raise DataError(
                f"the classes of training and validation set differ: {differing}; give both the same class_names"
            )

    def evaluate(self, model: Any, *, mesh: Mesh | None = None, progress: bool = True) -> dict[str, float]:
        config = self.config
        return evaluate_classifier(
            model,
            self.val,
            batch_size=config.eval_batch_size,
            workers=config.workers,
            mesh=mesh,
            progress=progress,
        )

    def plot(self, out: Path) -> None:
        """Draws nothing: accuracies have no curve."""

    def _sizes(self) -> int:
        return len(self.train)

    def _index(self) -> Iterator[np.ndarray]:
        yield np.array([record.label for record in self.train.records])

    def _describe(self, record: Any) -> str:
        return str(record.path)


def set_faults(name: str, dataset: DetectionDataset | ClassificationDataset) -> list[Fault]:
    """The faults of a dataset as a whole; ``name`` is ``"train"`` or ``"val"``."""
    found = [fault for fault in dataset.faults if fault.kind.of_set]
    if isinstance(dataset, DetectionDataset):
        training = name == "train"
        if not any(len((record if training else record.truth).labels) for record in dataset.records):
            result = "a detector would learn to find nothing" if training else "AP is undefined (-1)"
            text = f"no image of the set has a box ({len(dataset)} images): {result}"
            found.append(Fault(FaultKind.NO_BOXES, name, None, text))
    return found


def task_of(config: TrainConfig) -> type[Task]:
    """The task class for a configuration's model."""
    kinds: dict[ModelTask, type[Task]] = {
        ModelTask.DETECTION: DetectionTask,
        ModelTask.CLASSIFICATION: ClassificationTask,
    }
    return kinds[config.model.task]


def open_task(config: TrainConfig) -> Task:
    """Opens the datasets of a configuration.

    Raises:
        DataError: the data has faults or is empty, or the classes of the two datasets differ.
        ValueError: the data is not for this kind of model.
    """
    train = _open(config, "train")
    val = None if config.val is None else _open(config, "val")
    detection = config.model.task is ModelTask.DETECTION
    for name, dataset in (("train", train), ("val", val)):
        if dataset is not None and isinstance(dataset, DetectionDataset) != detection:
            has, needs = ("class labels", "boxes") if detection else ("boxes", "class labels")
            raise ValueError(
                f"{name}: {dataset} has {has}, but the model is {config.model.task.value}: give data with {needs}"
            )
    return task_of(config)(config, train, val)


def _open(config: TrainConfig, name: str) -> Any:
    source = getattr(config, name)
    dataset = source.open(skip_faulty=config.skip_faulty)
    if len(dataset) == 0:
        raise DataError(f"{name}: {source} has no images; give a dataset with images")
    return dataset

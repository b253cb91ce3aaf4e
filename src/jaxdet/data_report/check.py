"""The check of a run's data before it starts: its faults, and its statistics at the model's input."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flax import nnx

from jaxdet.data import (
    Augmentation,
    BatchPlan,
    ClassificationDataset,
    DataError,
    DetectionDataset,
    EvalPlan,
    Fault,
    FaultKind,
    Record,
    SplitPart,
    eval_plan,
)
from jaxdet.data.batching.detection_rows import check_box_count
from jaxdet.data.batching.sizing import Sizing
from jaxdet.data.faults import fatal
from jaxdet.data.formats.class_folder import LabelledPath
from jaxdet.data_report.box_report import BoxReport, CanvasUse, box_report, canvas_use
from jaxdet.data_report.inspection import image_faults
from jaxdet.models import Task
from jaxdet.runs.config import TrainConfig
from jaxdet.runs.start import fresh
from jaxdet.runs.task import set_faults, task_of

Dataset = DetectionDataset | ClassificationDataset


@dataclass(frozen=True)
class ClassCount:
    """boxes: None for classification data."""

    name: str
    images: int
    boxes: int | None


@dataclass(frozen=True)
class SetReport:
    """One dataset. boxes, canvases: only for detection data; canvases is empty if no batch plan could be made."""

    name: str  # "train" or "val"
    images: int
    classes: tuple[ClassCount, ...]
    boxes: BoxReport | None
    canvases: tuple[CanvasUse, ...]
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class DataReport:
    """The datasets of a run.

    decoded: whether the images were decoded.
    skip_faulty: whether the run leaves faulty boxes out instead of refusing the data.
    """

    sets: tuple[SetReport, ...]
    decoded: bool
    skip_faulty: bool

    @property
    def faults(self) -> tuple[Fault, ...]:
        return tuple(fault for report in self.sets for fault in report.faults)

    @property
    def errors(self) -> tuple[Fault, ...]:
        """The faults that stop training."""
        return tuple(fatal(self.faults, skip_faulty=self.skip_faulty))

    @property
    def left_out(self) -> tuple[Fault, ...]:
        """The faulty boxes that training leaves out because of ``skip_faulty``."""
        return tuple(fault for fault in self.faults if self.skip_faulty and fault.kind.of_box)

    @property
    def warnings(self) -> tuple[Fault, ...]:
        """The faults that do not stop training."""
        return tuple(fault for fault in self.faults if fault.severity == "warning")

    def json(self) -> str:
        """The whole report. Every fault has a ``severity``: ``"error"`` or ``"warning"``."""
        content = dataclasses.asdict(self)
        for report, found in zip(content["sets"], self.sets, strict=True):
            for entry, fault in zip(report["faults"], found.faults, strict=True):
                entry["severity"] = fault.severity
        return json.dumps({"errors": len(self.errors), **content}, indent=1)


def check(config: TrainConfig, *, decode: bool = True, workers: int | None = None, progress: bool = True) -> DataReport:
    """Opens the data of a configuration and reports on it. Faults do not stop the check.

    Args:
        config: the run's configuration. If it starts from ``weights``, pass the effective configuration
            (`jaxdet.runs.follow.follow_weights`), as the commands do: the report is about this configuration's anchors.
        decode: also decode every image.
        workers: see `jaxdet.data_report.inspection.image_faults`.
    """
    faults: dict[str, list[Fault]] = {}
    sets: dict[str, Dataset] = {}
    for name in ("train", "val"):
        if getattr(config, name) is not None:
            dataset, faults[name] = _open(config, name)
            if dataset is not None:
                sets[name] = dataset
    for name, dataset in sets.items():
        faults[name] += [fault for fault in set_faults(name, dataset) if fault not in dataset.faults]
        if decode:
            faults[name] += image_faults(dataset, workers=workers, progress=progress, title=name)
    if isinstance(config.val, SplitPart) and isinstance(config.train, SplitPart):
        reported = set(faults["train"])  # both parts have the faults of their common source
        faults["val"] = [fault for fault in faults["val"] if fault not in reported]
    plans = _plans(config, sets, faults)
    if len(sets) == 2:
        faults["val"] += _in_both(sets["train"], sets["val"])
    strides = _strides(config, sets)
    reports = [_report(config, name, sets.get(name), plans.get(name), strides, faults[name]) for name in faults]
    return DataReport(tuple(reports), decode, config.skip_faulty)


def _open(config: TrainConfig, name: str) -> tuple[Dataset | None, list[Fault]]:
    """The dataset, or None if the model cannot use it, and its faults."""
    try:
        dataset = getattr(config, name).open(skip_faulty=True)
    except DataError as error:
        dataset = error.dataset
        if dataset is None:
            return None, list(error.faults) or [_unusable(name, str(error))]
    faults = list(dataset.faults)
    is_detector = config.model.task is Task.DETECTION
    if isinstance(dataset, DetectionDataset) != is_detector:
        has, needs = ("class labels", "boxes") if is_detector else ("boxes", "class labels")
        text = f"{dataset} has {has}, but the model is {config.model.task.value}: give data with {needs}"
        return None, [*faults, _unusable(name, text)]
    if len(dataset) == 0:
        return None, [*faults, _unusable(name, "the dataset has no usable images; give one that has")]
    return dataset, faults


def _unusable(name: str, text: str) -> Fault:
    return Fault(FaultKind.UNUSABLE_SET, name, None, text)


def _plans(
    config: TrainConfig, sets: Mapping[str, Any], faults: Mapping[str, list[Fault]]
) -> dict[str, BatchPlan | EvalPlan]:
    """The batch plan of each set. If a set has none, the reason is added to its faults."""
    plans: dict[str, BatchPlan | EvalPlan] = {}
    train, val = sets.get("train"), sets.get("val")
    # The task is built as in a run, so that the check finds what a run would refuse.
    task: Any = task_of(config)
    if train is not None and _all_have_pixels(train, _train_sizing(config), faults["train"]):
        try:
            plans["train"] = task(config, train, None).plan
            _check_slots(config, train)
        except ValueError as error:
            faults["train"].append(_unusable("train", str(error)))
    if "train" in plans and val is not None:
        try:
            task(config, train, val)
        except ValueError as error:
            faults["val"].append(_unusable("val", str(error)))
    if isinstance(val, DetectionDataset):
        sizing = Augmentation().sizing(config.model.transform)
        if _all_have_pixels(val, sizing, faults["val"]):
            plans["val"] = eval_plan(val.sizes, config.eval_batch_size, sizing)
    return plans


def _check_slots(config: TrainConfig, dataset: Dataset) -> None:
    """Raises DataError if the fullest image has more boxes and ignored regions than the run has slots."""
    if isinstance(dataset, DetectionDataset) and config.max_boxes is not None:
        slots = [len(record.boxes) + len(record.ignored) for record in dataset.records]
        check_box_count(dataset, int(np.argmax(slots)), config.max_boxes)


def _train_sizing(config: TrainConfig) -> Sizing:
    assert config.augment is not None  # set by TrainConfig
    return config.augment.sizing(config.model.transform, square=config.square)  # type: ignore[arg-type]


def _all_have_pixels(dataset: Dataset, sizing: Sizing, faults: list[Fault]) -> bool:
    """Whether every image has pixels at the model's input. Images too thin for that are added to the faults."""
    if not isinstance(dataset, DetectionDataset):  # classification images are cropped to a fixed size
        return True
    distinct, inverse = np.unique(dataset.sizes, axis=0, return_inverse=True)
    problems: dict[int, str] = {}
    for number, size in enumerate(distinct.tolist()):
        try:
            sizing.largest(*size)
        except DataError as error:
            problems[number] = str(error)
    numbers = inverse.reshape(-1).tolist()
    texts = {index: problems[number] for index, number in enumerate(numbers) if number in problems}
    faults += _at(dataset, FaultKind.IMAGE_SIZE, texts)
    return not texts


def _in_both(train: Dataset, val: Dataset) -> list[Fault]:
    """Faults for the validation images that are also training images."""
    trained = {os.path.abspath(path) for path in _paths(train) if os.path.isfile(path)}
    indices = [index for index, path in enumerate(_paths(val)) if os.path.abspath(path) in trained]
    return _at(val, FaultKind.SHARED_IMAGE, dict.fromkeys(indices, "the image is also trained on"))


def _at(dataset: Dataset, kind: FaultKind, texts: Mapping[int, str]) -> list[Fault]:
    """Faults of images by index, each at the file and line of the image's annotations."""
    paths, places = _paths(dataset), dataset.places(list(texts))
    return [
        Fault(kind, file, line, f"{paths[index]}: {text}")
        for (index, text), (file, line) in zip(texts.items(), places, strict=True)
    ]


def _paths(dataset: Dataset) -> list[str]:
    records: Sequence[Record | LabelledPath] = dataset.records
    return [record.path for record in records]


def _strides(config: TrainConfig, sets: dict[str, Dataset]) -> tuple[int, ...]:
    """The strides of a detector's feature maps, without allocating the model."""
    if config.model.task is not Task.DETECTION or not sets:
        return ()
    names = tuple(next(iter(sets.values())).names)
    model: Any = nnx.eval_shape(lambda: fresh(config, names))
    return model.anchor_strides()


def _report(
    config: TrainConfig,
    name: str,
    dataset: Dataset | None,
    plan: BatchPlan | EvalPlan | None,
    strides: Sequence[int],
    faults: Sequence[Fault],
) -> SetReport:
    if dataset is None:
        return SetReport(name, 0, (), None, (), tuple(faults))
    if isinstance(dataset, ClassificationDataset):
        counts = np.bincount([record.label for record in dataset.records], minlength=len(dataset.names)).tolist()
        labelled = tuple(ClassCount(*pair, None) for pair in zip(dataset.names, counts, strict=True))
        return SetReport(name, len(dataset), labelled, None, (), tuple(faults))
    canvases = () if plan is None else canvas_use(plan, dataset.sizes)
    model: Any = config.model
    boxes = box_report(dataset, model, strides)
    return SetReport(name, len(dataset), _class_counts(dataset), boxes, canvases, tuple(faults))


def _class_counts(dataset: DetectionDataset) -> tuple[ClassCount, ...]:
    boxes = np.zeros(len(dataset.names), np.int64)
    images = np.zeros(len(dataset.names), np.int64)
    for record in dataset.records:
        boxes += np.bincount(record.labels, minlength=len(boxes))
        images[np.unique(record.labels)] += 1
    rows = zip(dataset.names, images.tolist(), boxes.tolist(), strict=True)
    return tuple(ClassCount(*row) for row in list(rows)[1:])

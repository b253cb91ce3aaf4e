"""The configuration of a training run, and the Python files that hold one."""

from __future__ import annotations

import runpy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jaxdet.config import override
from jaxdet.data import DataSource, DetectionDataset
from jaxdet.detectors import FasterRCNNConfig
from jaxdet.training import OptimizerConfig


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    model: see `jaxdet.detectors.detector_config`; its classes follow the training set.
    train, val: where the data lies (`jaxdet.data.CocoFiles`, `jaxdet.data.VocFolder`).
    steps: of ``batch_size`` images each; an epoch has about ``len(dataset) / batch_size``.
    optimizer: its fields are options of the run, as ``optimizer_learning_rate``.
    weights: a jaxdet model to start from; backbone_weights: a classifier's weights file for the body alone.
    frozen: paths of parameters that do not train, such as ``"backbone.conv1"``.
    flip: probability of mirroring a training picture.
    square: also one canvas for both orientations, so that a set with few of one of them loses none.
    skip_faulty: leave out boxes that cannot be trained on, instead of stopping.
    """

    model: FasterRCNNConfig
    train: DataSource
    val: DataSource
    steps: int
    batch_size: int = 16
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig, metadata={"options": "optimizer_"})
    weights: str | None = None
    backbone_weights: str | None = None
    frozen: tuple[str, ...] = ()
    flip: float = 0.5
    max_boxes: int | None = None
    square: bool = False
    skip_faulty: bool = False
    seed: int = 0
    log_every: int = 20
    eval_batch_size: int = 8
    dtype: str = "float32"
    precision: str = "highest"


def read_config(path: str | Path, options: dict[str, Any] | None = None) -> TrainConfig:
    """The configuration that a Python file's ``config()`` returns, with some options changed.

    Options are fields of `TrainConfig` and ``optimizer_*``; an unknown one is an error that names the nearest.

    Raises:
        ValueError: no such file, or it has no ``config()`` that returns a `TrainConfig`.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: there is no such configuration file")
    function = runpy.run_path(str(path)).get("config")
    if not callable(function):
        raise ValueError(f"{path}: has no function config(); define one that returns a jaxdet.runs.TrainConfig")
    config = function()
    if not isinstance(config, TrainConfig):
        raise ValueError(f"{path}: config() returned a {type(config).__name__}, not a jaxdet.runs.TrainConfig")
    return override(config, options or {})


def model_for(config: TrainConfig, dataset: DetectionDataset) -> FasterRCNNConfig:
    """The model's configuration with the classes of a dataset."""
    return replace(config.model, num_classes=len(dataset.names), names=dataset.names)

"""The configuration of a training run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from jaxdet.backbones import Backbone
from jaxdet.data import Augmentation, ClassAugmentation, DataSource
from jaxdet.evaluation import Metrics, check_metrics
from jaxdet.models import ModelConfig, Task
from jaxdet.nn import Numerics
from jaxdet.training import Epochs, OptimizerConfig, Steps
from jaxdet.training.spans import AnySpan, Span, to_span

BackboneFactory = Callable[..., Backbone]  # takes the keywords numerics and rngs


@dataclass(frozen=True)
class TrainConfig:
    """The configuration of a training run.

    model: a detector (`jaxdet.models.detector_config`) or a classifier. Its classes are those of the training set.
    train, val: the data (`jaxdet.data.CocoFiles`, `VocFolder`, `YoloFolder`, `Examples`, `ClassFolder`, or any object
        with their ``open``). Without ``val`` there is no evaluation.
    steps, epochs: the length of the run; give one of them. A step is a batch. Plain numbers in ``eval_every`` and in
        the optimizer's milestones have the same unit: they are converted to `jaxdet.training.Steps` or `Epochs`, and so
        keep it if the length is changed later. Both also take these types, or text: ``"500 steps"``, ``"2 epochs"``.
    backbone: for a detector with ``model.backbone`` None: a function of ``numerics`` and ``rngs`` that builds it.
    augment: `jaxdet.data.Augmentation` or, for a classifier, `ClassAugmentation`; by default that for the model.
    weights: a model to start from; backbone_weights: a classifier's weights for a detector's backbone. Each is a
        jaxdet folder, a PyTorch file, or the name of official torchvision weights (``"resnet50_v1"``).
    frozen: paths of parameters that are not trained, such as ``"backbone.conv1"``.
    freeze_norms: keep statistics, scales and biases of the backbone's batch norms constant.
    ema_decay: decay of moving averages of the parameters, which are then evaluated and saved; None: no averages.
    label_smoothing: for classifiers.
    max_boxes: number of box slots per image; by default the largest number of boxes of an image.
    square: also use a canvas for both orientations, so that no images are left out if one orientation is rare.
    skip_faulty: leave out faulty boxes instead of raising an error.
    workers: number of processes that decode and augment; 0: threads of this process.
    log_every: steps between logged losses. Logging waits for the device.
    eval_every: interval of evaluations; there is always one at the end. None: only that one.
    metrics: the metrics of a detector's evaluations, ``"coco"``, or ``"crowd"`` for data of one class
        (`jaxdet.evaluation.HeadResult`). The model with the best AP is kept.
    max_dets: maximum number of detections per class and image that COCO's metrics use; None: COCO's 100.
    eval_losses: also compute the losses in evaluations, in the same pass through the backbone.
    checkpoint_every: steps between checkpoints. The last ``keep`` are kept, and those at multiples of ``keep_every``.
    torch_weights: also save the result as a PyTorch state dict.
    """

    model: ModelConfig = field(metadata={"options": "model_"})
    train: DataSource = field(metadata={"options": "train_"})
    val: DataSource | None = field(default=None, metadata={"options": "val_"})
    steps: int | None = None
    epochs: float | None = None
    batch_size: int = 16
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig, metadata={"options": "optimizer_"})
    augment: Augmentation | ClassAugmentation | None = field(default=None, metadata={"options": "augment_"})
    backbone: BackboneFactory | None = None
    weights: str | None = None
    backbone_weights: str | None = None
    frozen: tuple[str, ...] = ()
    freeze_norms: bool = False
    ema_decay: float | None = None
    label_smoothing: float = 0.0
    max_boxes: int | None = None
    square: bool = False
    skip_faulty: bool = False
    seed: int = 0
    workers: int = 0
    log_every: int = 20
    eval_every: AnySpan | None = None
    metrics: Metrics = field(default="coco", metadata={"also": str})
    max_dets: int | None = None
    eval_losses: bool = False
    eval_batch_size: int = 8
    checkpoint_every: int = 1000
    keep: int = 2
    keep_every: int | None = None
    torch_weights: bool = False
    dtype: str = "float32"
    precision: str = "highest"

    def __post_init__(self) -> None:
        if self.augment is None:
            default = Augmentation if self.model.task is Task.DETECTION else ClassAugmentation
            object.__setattr__(self, "augment", default())
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give a run either steps or epochs as its length")
        self._add_units()
        for name in ("batch_size", "log_every", "eval_batch_size", "checkpoint_every", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("seed", "workers"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be between 0 and 1, not {self.label_smoothing}")
        Numerics(self.dtype, precision=self.precision)  # checks both
        for name in ("steps", "epochs", "eval_every", "keep_every", "max_boxes"):
            value = getattr(self, name)
            if value is not None and (value.count if isinstance(value, Steps | Epochs) else value) <= 0:
                raise ValueError(f"{name} must be above 0, not {value}")
        object.__setattr__(self, "metrics", check_metrics(self.metrics, self.max_dets))
        if self.metrics != "coco" and self.model.task is not Task.DETECTION:
            raise ValueError(f"metrics={self.metrics!r} is for detectors; a classifier's metrics are its accuracy")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay must be between 0 and 1, not {self.ema_decay}")

    def _add_units(self) -> None:
        unit = Steps if self.epochs is None else Epochs
        if self.eval_every is not None:
            object.__setattr__(self, "eval_every", to_span(self.eval_every, unit, "eval_every"))
        marks = tuple(to_span(mark, unit, "optimizer_milestones") for mark in self.optimizer.milestones)
        if marks != self.optimizer.milestones:
            object.__setattr__(self, "optimizer", replace(self.optimizer, milestones=marks))


@dataclass(frozen=True)
class Length:
    """A run's length, interval of evaluations and milestones, in steps."""

    steps: int
    eval_every: int | None
    optimizer: OptimizerConfig


def run_length(config: TrainConfig, steps_per_epoch: int) -> Length:
    """Converts the durations of a configuration to steps."""
    total = Steps(config.steps) if config.steps is not None else Epochs(config.epochs or 0)
    marks = tuple(_in_steps(mark, steps_per_epoch) for mark in config.optimizer.milestones)
    every = None if config.eval_every is None else max(1, _in_steps(config.eval_every, steps_per_epoch))
    optimizer = replace(config.optimizer, milestones=marks)
    return Length(max(1, total.steps(steps_per_epoch)), every, optimizer)


def _in_steps(span: AnySpan, steps_per_epoch: int) -> int:
    assert isinstance(span, Span)  # converted by TrainConfig
    return span.steps(steps_per_epoch)

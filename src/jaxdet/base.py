"""What every model and its configuration offer; the rest of the library asks for nothing else."""

from __future__ import annotations

import enum
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from flax import nnx
from jax import Array
from jax.sharding import Mesh

from jaxdet.nn import NormConfig, Numerics
from jaxdet.types import Images

Losses = dict[str, Array]
"""Scalars by PyTorch's names; what a step minimises is their sum."""

AnyConfig = TypeVar("AnyConfig", bound="ModelConfig")


class Task(enum.Enum):
    """What a model is for. The value is how a message refers to such a model."""

    CLASSIFICATION = "a classifier"
    DETECTION = "a detector"


class ModelConfig:
    """The parent of every model's configuration, which is a frozen, hashable dataclass.

    Every subclass has the fields ``num_classes``, ``names`` and ``transform``.

    Attributes:
        task: what the model is for.
        predictor: how the paths of the parameters begin that start anew for other classes.
        trained_with: options that a run's configuration decides, but that weights were trained with: where a run starts
            from weights that differ in one, it says so.
    """

    task: ClassVar[Task]
    predictor: ClassVar[tuple[str, ...]]
    trained_with: ClassVar[tuple[str, ...]] = ("transform",)

    num_classes: int | None
    names: tuple[str, ...]
    transform: Any

    @property
    def backbone_config(self) -> Any:
        """The configuration of the backbone, a classifier's own; None where the caller brings the module."""
        return self

    @property
    def needs_backbone(self) -> bool:
        """Whether the model is built on a backbone that the caller brings."""
        return self.backbone_config is None

    def with_backbone(self: AnyConfig, backbone: Any) -> AnyConfig:
        """The same model on a backbone of another configuration."""
        return backbone

    def with_classes(self: AnyConfig, names: Sequence[str], count: int | None = None) -> AnyConfig:
        """The same model for other classes.

        Args:
            names: of the classes, a detector's with the background; empty: unknown.
            count: how many there are, where they have no names.
        """
        found: Any = replace(self, num_classes=len(names) if count is None else count, names=tuple(names))  # type: ignore[type-var]
        return found

    def with_frozen_norms(self: AnyConfig) -> AnyConfig:
        """The same model with the batch norms of its backbone frozen: statistics, scales and biases are constants."""
        if self.backbone_config is None:
            raise ValueError("freeze_norms freezes those of jaxdet's own backbones; freeze your own in its constructor")
        norm: NormConfig = self.backbone_config.norm
        if norm.kind == "group":
            raise ValueError("freeze_norms freezes batch norms; group norms have no statistics to freeze: leave it out")
        return self.with_backbone(replace(self.backbone_config, norm=replace(norm, kind="frozen")))

    def fixed_by_weights(self: AnyConfig, stored: Any) -> AnyConfig:
        """This configuration for a run that starts from the weights of another model of its kind.

        What shapes parameters is ``stored``'s, and so are the constants of a trained function: norms, slopes of
        activations. Classes and everything else are this configuration's. Doing it twice changes nothing more.

        Raises:
            ValueError: the stored model is of another kind; in words that follow what holds it.
        """
        check_same_backbone(self, stored)
        return self.with_backbone(backbone_of_weights(self.backbone_config, stored.backbone_config))

    def architecture(self) -> Hashable:
        """What the modules are built from. All else is read from the configuration at each call."""
        transform: Any = type(self.transform)()
        found: Any = replace(self, transform=transform, names=())  # type: ignore[type-var]
        return found

    def anchors(self) -> Any:
        """The anchors that the model is trained with (`jaxdet.models.config.AnchorReport`); None: it has none."""
        return None


def backbone_of_weights(ours: Any, theirs: Any) -> Any:
    """The backbone that weights of another configuration have; its classes and its transform are ``ours``."""
    if theirs is None:
        return None
    norm = norm_of_weights(ours.norm, theirs.norm)
    return replace(theirs, norm=norm, num_classes=ours.num_classes, names=ours.names, transform=ours.transform)


def norm_of_weights(ours: NormConfig | None, theirs: NormConfig | None) -> Any:
    """Kind and eps are those of the weights; how fast statistics move from now on is the configuration's."""
    return theirs if ours is None or theirs is None else replace(theirs, momentum=ours.momentum)


def check_same_backbone(ours: ModelConfig, theirs: ModelConfig) -> None:
    """Refuses weights of another task or another kind of backbone.

    Raises:
        ValueError: in words that follow what holds the weights.
    """
    if ours.task is not theirs.task:
        hint = (
            "backbone_weights takes a classifier for its backbone"
            if theirs.task is Task.CLASSIFICATION
            else "give a classifier's"
        )
        raise ValueError(f"holds {theirs.task.value}, and the run trains another kind of model: {hint}")
    mine, stored = (_kind(config) for config in (ours, theirs))
    if mine != stored:
        raise ValueError(f"stands on a {stored}, and the run trains a {mine}: give weights of that")


def _kind(config: ModelConfig) -> str:
    return (
        "backbone of its own"
        if config.backbone_config is None
        else type(config.backbone_config).__name__.removesuffix("Config")
    )


class Model(nnx.Module):
    """The parent of every model.

    Attributes:
        config: all that the model is built from, and its options.
        numerics: in which precision it computes.
        origin: whose names its weights came under, for the way back to PyTorch.
    """

    config: Any
    numerics: Numerics
    origin: tuple[str, ...] = ()

    def losses(
        self, images: Images, targets: Any, keys: Array, *, train: bool = True, mesh: Mesh | None = None
    ) -> Losses:
        """The terms that training minimises the sum of.

        Args:
            images: the batch.
            targets: `jaxdet.Targets` of a detector, labels ``[B]`` of a classifier.
            keys: ``[B]`` typed random keys, one an image.
            train: normalise by the batch's statistics and move the running ones.
            mesh: the devices over which the batch is split.
        """
        raise NotImplementedError(f"{type(self).__name__} has no losses")

    def predicted_classes(self) -> int | None:
        """How many classes the predictor's parameters are for, whatever the configuration says; None: it has none."""
        return None


def check_task(model: Any, task: Task, *, by: str, use: str) -> None:
    """Refuses anything but a model for a task.

    Args:
        by: the function that wants one; use: the one that takes the models of the other task.

    Raises:
        ValueError: the model is for something else.
    """
    found = getattr(getattr(model, "config", None), "task", None)
    if found is not task:
        kind = f"is {found.value}; use {use}" if isinstance(found, Task) else "is none"
        raise ValueError(f"{by} takes {task.value}, and this {type(model).__name__} {kind}")

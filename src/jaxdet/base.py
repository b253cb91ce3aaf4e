"""Parent classes of all models and model configurations: the interface that the rest of the library uses."""

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
"""Scalar loss terms by PyTorch's names. Training minimises their sum."""

AnyConfig = TypeVar("AnyConfig", bound="ModelConfig")


class Task(enum.Enum):
    """The task of a model. The value is its name in messages."""

    CLASSIFICATION = "a classifier"
    DETECTION = "a detector"


class ModelConfig:
    """The parent of every model's configuration, which is a frozen, hashable dataclass.

    Every subclass has the fields ``num_classes``, ``names`` and ``transform``.

    Attributes:
        task: the task of the model.
        predictor: path prefixes of the parameters that depend on the classes; `with_classes` initialises them anew.
        trained_with: options that a run's configuration decides although the weights were trained with some value of
            them. A run that starts from weights with another value reports it.
    """

    task: ClassVar[Task]
    predictor: ClassVar[tuple[str, ...]]
    trained_with: ClassVar[tuple[str, ...]] = ("transform",)

    num_classes: int | None
    names: tuple[str, ...]
    transform: Any

    @property
    def backbone_config(self) -> Any:
        """The configuration of the backbone; a classifier is its own backbone. None: the caller passes the module."""
        return self

    @property
    def needs_backbone(self) -> bool:
        """Whether the caller has to pass the backbone."""
        return self.backbone_config is None

    def with_backbone(self: AnyConfig, backbone: Any) -> AnyConfig:
        """This configuration with another backbone."""
        return backbone

    def with_classes(self: AnyConfig, names: Sequence[str], count: int | None = None) -> AnyConfig:
        """This configuration for other classes.

        Args:
            names: class names, for a detector including the background; empty: unknown.
            count: number of classes, if they have no names.
        """
        found: Any = replace(self, num_classes=len(names) if count is None else count, names=tuple(names))  # type: ignore[type-var]
        return found

    def with_frozen_norms(self: AnyConfig) -> AnyConfig:
        """This configuration with frozen batch norms in the backbone: statistics, scales and biases are constants."""
        if self.backbone_config is None:
            raise ValueError(
                "freeze_norms needs a backbone of jaxdet; freeze the norms of a custom one in its constructor"
            )
        norm: NormConfig = self.backbone_config.norm
        if norm.kind == "group":
            raise ValueError("freeze_norms is for batch norms, and this backbone has group norms: leave it out")
        return self.with_backbone(replace(self.backbone_config, norm=replace(norm, kind="frozen")))

    def fixed_by_weights(self: AnyConfig, stored: Any) -> AnyConfig:
        """This configuration, adapted to the weights that a run starts from. Idempotent.

        Options that determine the shapes of parameters, and constants of the trained function (norms, slopes of
        activations), are taken from ``stored``. Classes and all other options are kept.

        Raises:
            ValueError: the stored model is of another kind. The message continues a sentence about the weights.
        """
        check_same_backbone(self, stored)
        return self.with_backbone(backbone_of_weights(self.backbone_config, stored.backbone_config))

    def architecture(self) -> Hashable:
        """The part of the configuration that determines the modules. The rest is read at each call."""
        transform: Any = type(self.transform)()
        found: Any = replace(self, transform=transform, names=())  # type: ignore[type-var]
        return found

    def anchors(self) -> Any:
        """The anchors that the model is trained with (`jaxdet.models.config.AnchorReport`); None: anchor-free."""
        return None


def backbone_of_weights(ours: Any, theirs: Any) -> Any:
    """The backbone configuration ``theirs``, with the classes and the transform of ``ours``."""
    if theirs is None:
        return None
    norm = norm_of_weights(ours.norm, theirs.norm)
    return replace(theirs, norm=norm, num_classes=ours.num_classes, names=ours.names, transform=ours.transform)


def norm_of_weights(ours: NormConfig | None, theirs: NormConfig | None) -> Any:
    """The norm ``theirs`` (kind and eps belong to the weights) with the momentum of ``ours``."""
    return theirs if ours is None or theirs is None else replace(theirs, momentum=ours.momentum)


def check_same_backbone(ours: ModelConfig, theirs: ModelConfig) -> None:
    """Refuses weights of another task or another kind of backbone.

    Raises:
        ValueError: they differ. The message continues a sentence about the weights.
    """
    if ours.task is not theirs.task:
        hint = (
            "give a classifier's weights as backbone_weights"
            if theirs.task is Task.CLASSIFICATION
            else "give a classifier's weights"
        )
        raise ValueError(f"holds {theirs.task.value}, but the run trains {ours.task.value}: {hint}")
    mine, stored = (_kind(config) for config in (ours, theirs))
    if mine != stored:
        raise ValueError(f"has a {stored} backbone, but the run trains a {mine}: give weights with a {mine} backbone")


def _kind(config: ModelConfig) -> str:
    return "custom" if config.backbone_config is None else type(config.backbone_config).__name__.removesuffix("Config")


class Model(nnx.Module):
    """The parent of every model.

    Attributes:
        config: the configuration.
        numerics: dtype and precision of the computation.
        origin: the naming scheme that the weights were converted from, for the conversion back to PyTorch.
    """

    config: Any
    numerics: Numerics
    origin: tuple[str, ...] = ()

    def losses(
        self, images: Images, targets: Any, keys: Array, *, train: bool = True, mesh: Mesh | None = None
    ) -> Losses:
        """The loss terms. Training minimises their sum.

        Args:
            images: the batch.
            targets: `jaxdet.Targets` for a detector, labels ``[B]`` for a classifier.
            keys: ``[B]`` typed random keys, one per image.
            train: normalise with batch statistics and update the running ones.
            mesh: the devices over which the batch is split.
        """
        raise NotImplementedError(f"{type(self).__name__} has no losses")

    def predicted_classes(self) -> int | None:
        """Number of classes by the shape of the predictor's parameters; None: unknown."""
        return None


def check_task(model: Any, task: Task, *, by: str, use: str) -> None:
    """Refuses anything but a model for a task.

    Args:
        by: the calling function; use: the function for models of the other task.

    Raises:
        ValueError: ``model`` is a model for another task, or no model of jaxdet.
    """
    found = getattr(getattr(model, "config", None), "task", None)
    if found is not task:
        kind = f"is {found.value}; use {use}" if isinstance(found, Task) else "is not one"
        raise ValueError(f"{by} takes {task.value}, but this {type(model).__name__} {kind}")

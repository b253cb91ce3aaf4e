"""The interface of backbones and the parent class of classifiers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from flax import nnx
from jax import Array
from jax.sharding import Mesh

from jaxdet.base import Losses, Model, ModelConfig, Task
from jaxdet.nn import GlobalAvgPool, Linear, Numerics
from jaxdet.ops.cross_entropy import cross_entropy
from jaxdet.ops.pixels import IMAGENET_MEAN, IMAGENET_STD
from jaxdet.types import Images


@runtime_checkable
class Backbone(Protocol):
    """A module that returns named feature maps: the interface that a detector uses.

    channels, strides: by map, highest resolution first.
    overhang: optional, default 0: the number of pixels by which every map exceeds the image's extent divided by the
        stride, rounded up, in height and width.
    masks_padding: whether the maps of `features` are independent of the pixels outside an image's extent. A backbone
        that does not mask padding needs a detector with ``canvas="fast"``.
    """

    @property
    def channels(self) -> dict[str, int]: ...

    @property
    def strides(self) -> dict[str, int]: ...

    @property
    def masks_padding(self) -> bool: ...

    def features(self, x: Array, extents: Array | None = None, *, train: bool = False) -> dict[str, Array]:
        """The feature maps ``{name: [B, H / stride, W / stride, C]}`` of images.

        Args:
            x: normalised images ``[B, H, W, 3]``.
            extents: ``[B, 2]`` the size of each image on its canvas; None: no padding.
        """
        ...


@dataclass(frozen=True)
class ClassifierTransform:
    """Preprocessing of a classifier: resize the shorter side, crop the centre, normalise."""

    resize: int = 256
    crop: int = 224
    image_mean: tuple[float, float, float] = IMAGENET_MEAN
    image_std: tuple[float, float, float] = IMAGENET_STD


class BackboneConfig(ModelConfig):
    """The parent of every backbone's configuration. ``num_classes=None``: without classifier layer.

    Attributes:
        set_by_origin: fields that depend on the origin of the weights, besides those that shape parameters.
    """

    task: ClassVar[Task] = Task.CLASSIFICATION
    predictor: ClassVar[tuple[str, ...]] = ("fc.",)
    set_by_origin: ClassVar[tuple[str, ...]] = ()
    norm: Any


class Classifier(Model):
    """The parent of all backbones: a classifier with global average pooling and a linear layer on the last map."""

    names: tuple[str, ...]  # of the feature maps

    def __init__(self, channels: int, num_classes: int | None, *, numerics: Numerics, rngs: nnx.Rngs):
        self.numerics = numerics
        self.avgpool = GlobalAvgPool()
        self.fc = nnx.data(None if num_classes is None else Linear(channels, num_classes, numerics=numerics, rngs=rngs))

    def features(self, x: Array, extents: Array | None = None, *, train: bool = False) -> dict[str, Array]:
        raise NotImplementedError

    def __call__(self, x: Array, *, train: bool = False) -> Array:
        """Normalised images ``[B, H, W, 3]`` to logits ``[B, num_classes]``."""
        if self.fc is None:
            raise ValueError(
                f"this {type(self).__name__} was built without a classifier (num_classes=None); call features(x)"
            )
        x = self.features(x, train=train)[self.names[-1]]
        return self.fc(self.avgpool(x)[:, 0, 0])

    def losses(
        self,
        images: Images,
        targets: Array,
        keys: Array | None = None,
        *,
        train: bool = True,
        mesh: Mesh | None = None,
        label_smoothing: float = 0.0,
    ) -> Losses:
        """``loss_cross_entropy``: the mean cross-entropy of the batch, as PyTorch's ``CrossEntropyLoss``.

        Args:
            targets: ``[B]`` int32 labels, 0..K-1; -1: an empty row, which is ignored.
            keys, mesh: unused.
            train: normalise with batch statistics and update the running ones.
            label_smoothing: the fraction of the target distribution that is uniform over all classes.
        """
        logits = self(images.pixels.astype(self.numerics.dtype), train=train)  # [B, K]
        return {"loss_cross_entropy": cross_entropy(logits, targets, label_smoothing)}

    def predicted_classes(self) -> int | None:
        return None if self.fc is None else self.fc.kernel.shape[-1]

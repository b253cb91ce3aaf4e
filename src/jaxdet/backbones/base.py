"""What a detector asks of a backbone."""

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
    """A module that returns named feature maps: all that a detector needs to know of it.

    channels, strides: per map, from the highest resolution to the lowest.
    overhang: optional, 0 where a backbone has none: by how many pixels each map is higher and wider than the image's
        extent over the stride, rounded up.
    masks_padding: whether `features` makes its maps independent of what lies beyond an image's extent. A backbone
        that does not runs in a detector with ``canvas="fast"``.
    """

    @property
    def channels(self) -> dict[str, int]: ...

    @property
    def strides(self) -> dict[str, int]: ...

    @property
    def masks_padding(self) -> bool: ...

    def features(self, x: Array, extents: Array | None = None, *, train: bool = False) -> dict[str, Array]:
        """Normalised images ``[B, H, W, 3]`` with extents ``[B, 2]`` to ``{name: [B, H / stride, W / stride, C]}``."""
        ...


@dataclass(frozen=True)
class ClassifierTransform:
    """How a classifier wants its images: the shorter side resized, the centre cut out, normalised."""

    resize: int = 256
    crop: int = 224
    image_mean: tuple[float, float, float] = IMAGENET_MEAN
    image_std: tuple[float, float, float] = IMAGENET_STD


class BackboneConfig(ModelConfig):
    """The parent of every backbone's configuration. With ``num_classes=None`` it has no classifier.

    Attributes:
        told_by_names: fields, beside those that shape parameters, that follow from whose names weights came under.
    """

    task: ClassVar[Task] = Task.CLASSIFICATION
    predictor: ClassVar[tuple[str, ...]] = ("fc.",)
    told_by_names: ClassVar[tuple[str, ...]] = ()
    norm: Any


class Classifier(Model):
    """Shared by the backbones: global average pooling of the last map and a linear layer give the logits."""

    names: tuple[str, ...]  # of the maps that `features` returns

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
        """Mean cross-entropy of a batch under ``loss_cross_entropy``, as PyTorch's ``CrossEntropyLoss`` computes it.

        Args:
            targets: ``[B]`` int32, 0..K-1; a row of -1 is no image and counts for nothing.
            keys, mesh: not needed.
            train: normalise by the batch's statistics and move the running ones.
            label_smoothing: share of the target that is spread over all classes.
        """
        logits = self(images.pixels.astype(self.numerics.dtype), train=train)  # [B, K]
        return {"loss_cross_entropy": cross_entropy(logits, targets, label_smoothing)}

    def predicted_classes(self) -> int | None:
        return None if self.fc is None else self.fc.kernel.shape[-1]

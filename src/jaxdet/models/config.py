"""What the configurations of detectors share."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

from jaxdet.backbones import BackboneConfig
from jaxdet.base import ModelConfig, Task, backbone_of_weights, check_same_backbone, norm_of_weights
from jaxdet.heads import AnchorGenerator
from jaxdet.nn import NormConfig
from jaxdet.ops.pixels import IMAGENET_MEAN, IMAGENET_STD

AnyDetectorConfig = TypeVar("AnyDetectorConfig", bound="DetectorConfig")


@dataclass(frozen=True)
class DetectorTransform:
    """How a detector's images are resized and normalised (torchvision's ``GeneralizedRCNNTransform``).

    min_size: of the shorter side in pixels, unless the longer one would exceed ``max_size``.
    image_mean, image_std: of values in 0..1, before resizing.
    enlarge: whether an image smaller than that is enlarged.
    """

    min_size: int = 800
    max_size: int = 1333
    image_mean: tuple[float, float, float] = IMAGENET_MEAN
    image_std: tuple[float, float, float] = IMAGENET_STD
    enlarge: bool = True


@dataclass(frozen=True)
class FPNConfig:
    """levels: the backbone's maps that enter the pyramid, highest resolution first.

    norm: None gives biases; RetinaFace's pyramid always has norms.
    pool: a further level, every second pixel of the last one.
    p6p7: two further levels by convolutions of stride 2 instead: ``"p5"``, of the pyramid's last output, or ``"c5"``,
        of its last input. As in torchvision, the output is taken where both have as many channels.
    kind: ``"torchvision"``, or ``"retinaface"`` for three levels without further ones.
    """

    levels: tuple[str, ...] = ("layer1", "layer2", "layer3", "layer4")
    out_channels: int = 256
    norm: NormConfig | None = None
    pool: bool = True
    kind: str = "torchvision"
    p6p7: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("torchvision", "retinaface"):
            raise ValueError(f'the pyramid is "torchvision" or "retinaface", not {self.kind!r}')
        if self.p6p7 not in (None, "p5", "c5"):
            raise ValueError(f'fpn_p6p7 is None, "p5" or "c5", not {self.p6p7!r}')
        if self.out_channels < 1:
            raise ValueError(f"fpn_out_channels is at least 1, not {self.out_channels}")
        if self.pool and self.p6p7 is not None:
            raise ValueError("a pyramid has one kind of further levels: give fpn_pool=False with fpn_p6p7")
        if self.kind == "retinaface" and (len(self.levels) != 3 or self.pool or self.p6p7 is not None):
            raise ValueError(
                f"RetinaFace's pyramid has three levels and no further ones, not {self.levels}, pool={self.pool}, "
                f"p6p7={self.p6p7}"
            )

    @property
    def all_levels(self) -> tuple[str, ...]:
        """The names of the pyramid's maps, highest resolution first, the further ones included."""
        further = ("pool",) if self.pool else () if self.p6p7 is None else ("p6", "p7")
        return (*self.levels, *further)


@dataclass(frozen=True)
class AnchorReport:
    """The anchors that a detector is trained with.

    fg_iou_thresh: an anchor with at least this IoU with a ground truth is trained as an object.
    """

    generator: AnchorGenerator
    fg_iou_thresh: float


def anchor_counts(generator: AnchorGenerator) -> AnchorGenerator:
    """Anchors of the same counts: all that the parameters of a head depend on."""
    counts = generator.num_anchors_per_location()
    return AnchorGenerator(tuple((1.0,) * count for count in counts), ((1.0,),) * len(counts))


class DetectorConfig(ModelConfig):
    """The parent of every detector's configuration.

    Every subclass has these fields:

    backbone: None where the caller brings a module of their own.
    fpn: the pyramid.
    transform: how images are resized and normalised.
    num_classes: with the background.
    names: of the classes, index 0 the background; empty: unknown.
    canvas: ``"image"``: an image's result does not depend on its batch mates or on padding; ``"fast"``: nothing is
        masked, so it does a little.
    """

    task: ClassVar[Task] = Task.DETECTION
    trained_with: ClassVar[tuple[str, ...]] = ("fpn_pool", "image_mean", "image_std")

    backbone: BackboneConfig | None
    fpn: FPNConfig
    transform: DetectorTransform
    num_classes: int
    names: tuple[str, ...]
    canvas: str

    def __post_init__(self) -> None:
        if not isinstance(self.num_classes, int) or self.num_classes < 2:
            raise ValueError(f"num_classes is at least 2, the background and one class, not {self.num_classes!r}")
        if self.canvas not in ("image", "fast"):
            raise ValueError(f'canvas is "image" or "fast", not {self.canvas!r}')
        if self.names and len(self.names) != self.num_classes:
            raise ValueError(f"{len(self.names)} class names for num_classes={self.num_classes}, background included")

    @property
    def backbone_config(self) -> Any:
        return self.backbone

    def with_backbone(self: AnyDetectorConfig, backbone: Any) -> AnyDetectorConfig:
        found: Any = replace(self, backbone=backbone)  # type: ignore[type-var]
        return found

    @property
    def score_threshold(self) -> float:
        """The score above which detections are given."""
        raise NotImplementedError

    def with_score_threshold(self: AnyDetectorConfig, value: float) -> AnyDetectorConfig:
        """The same detector with another threshold."""
        raise NotImplementedError

    @property
    def max_detections(self) -> int:
        """How many detections an image has at most."""
        raise NotImplementedError

    def with_max_detections(self: AnyDetectorConfig, value: int) -> AnyDetectorConfig:
        """The same detector with another limit."""
        raise NotImplementedError

    def architecture(self) -> Hashable:
        found: Any = super().architecture()
        return replace(found, canvas="image")

    def fixed_by_weights(self: AnyDetectorConfig, stored: Any) -> AnyDetectorConfig:
        """The backbone and the pyramid are those of the weights; see `ModelConfig.fixed_by_weights`."""
        check_same_backbone(self, stored)
        backbone = None if stored.backbone is None else backbone_of_weights(self.backbone, stored.backbone)
        fpn = replace(stored.fpn, norm=norm_of_weights(self.fpn.norm, stored.fpn.norm))
        found: Any = replace(self, backbone=backbone, fpn=fpn)  # type: ignore[type-var]
        return found


def check_kind(ours: DetectorConfig, stored: Any, kind: type) -> None:
    """Refuses weights of another kind of model for the start of a run.

    Args:
        kind: the configuration that the weights' has to be of.

    Raises:
        ValueError: in words that follow what holds the weights.
    """
    check_same_backbone(ours, stored)
    if isinstance(stored, kind):
        return
    mine, theirs = (type(config).__name__.removesuffix("Config") for config in (ours, stored))
    raise ValueError(
        f"holds a {theirs}, and the run trains a {mine}: give weights of that, or its backbone's alone by "
        "backbone_weights"
    )

"""Parent class and shared parts of detector configurations."""

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

    min_size: size of the shorter side in pixels, unless the longer side would exceed ``max_size``.
    image_mean, image_std: normalisation of values in 0..1, applied before resizing.
    enlarge: whether smaller images are enlarged.
    """

    min_size: int = 800
    max_size: int = 1333
    image_mean: tuple[float, float, float] = IMAGENET_MEAN
    image_std: tuple[float, float, float] = IMAGENET_STD
    enlarge: bool = True


@dataclass(frozen=True)
class FPNConfig:
    """The feature pyramid.

    levels: feature maps of the backbone that enter the pyramid, highest resolution first.
    norm: None: convolutions have biases instead. RetinaFace's pyramid always has norms.
    pool: add a level by subsampling the last one (stride 2).
    p6p7: add two levels by stride-2 convolutions on the last output (``"p5"``) or the last input (``"c5"``) of the
        pyramid. As in torchvision, the output is used if both have the same number of channels.
    kind: ``"torchvision"``, or ``"retinaface"`` for exactly three levels.
    """

    levels: tuple[str, ...] = ("layer1", "layer2", "layer3", "layer4")
    out_channels: int = 256
    norm: NormConfig | None = None
    pool: bool = True
    kind: str = "torchvision"
    p6p7: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("torchvision", "retinaface"):
            raise ValueError(f'fpn_kind must be "torchvision" or "retinaface", not {self.kind!r}')
        if self.p6p7 not in (None, "p5", "c5"):
            raise ValueError(f'fpn_p6p7 must be None, "p5" or "c5", not {self.p6p7!r}')
        if self.out_channels < 1:
            raise ValueError(f"fpn_out_channels must be at least 1, not {self.out_channels}")
        if self.pool and self.p6p7 is not None:
            raise ValueError("a pyramid has either a pooled level or P6 and P7: give fpn_pool=False with fpn_p6p7")
        if self.kind == "retinaface" and (len(self.levels) != 3 or self.pool or self.p6p7 is not None):
            raise ValueError(
                f"RetinaFace's pyramid has three levels and no extra ones, not {self.levels}, pool={self.pool}, "
                f"p6p7={self.p6p7}"
            )

    @property
    def all_levels(self) -> tuple[str, ...]:
        """The names of the pyramid's maps, highest resolution first, including the extra levels."""
        extra = ("pool",) if self.pool else () if self.p6p7 is None else ("p6", "p7")
        return (*self.levels, *extra)


@dataclass(frozen=True)
class AnchorReport:
    """The anchors that a detector is trained with.

    fg_iou_thresh: an anchor with at least this IoU with a ground-truth box is positive.
    """

    generator: AnchorGenerator
    fg_iou_thresh: float


def anchor_counts(generator: AnchorGenerator) -> AnchorGenerator:
    """A generator with the same anchor counts, which are all that the parameters of a head depend on."""
    counts = generator.num_anchors_per_location()
    return AnchorGenerator(tuple((1.0,) * count for count in counts), ((1.0,),) * len(counts))


class DetectorConfig(ModelConfig):
    """The parent of every detector's configuration.

    Every subclass has these fields:

    backbone: None: the caller passes a module.
    fpn: the feature pyramid.
    transform: how images are resized and normalised.
    num_classes: number of classes, including the background.
    names: class names, index 0 is the background; empty: unknown.
    canvas: ``"image"``: padding is masked in every layer, so an image's result does not depend on the rest of its
        batch; ``"fast"``: padding is not masked, and results depend on it slightly.
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
            raise ValueError(f"num_classes must be at least 2 (background and a class), not {self.num_classes!r}")
        if self.canvas not in ("image", "fast"):
            raise ValueError(f'canvas must be "image" or "fast", not {self.canvas!r}')
        if self.names and len(self.names) != self.num_classes:
            raise ValueError(
                f"{len(self.names)} class names for num_classes={self.num_classes}, which include background"
            )

    @property
    def backbone_config(self) -> Any:
        return self.backbone

    def with_backbone(self: AnyDetectorConfig, backbone: Any) -> AnyDetectorConfig:
        found: Any = replace(self, backbone=backbone)  # type: ignore[type-var]
        return found

    @property
    def score_threshold(self) -> float:
        """Detections have scores above this."""
        raise NotImplementedError

    def with_score_threshold(self: AnyDetectorConfig, value: float) -> AnyDetectorConfig:
        """This configuration with another score threshold."""
        raise NotImplementedError

    @property
    def max_detections(self) -> int:
        """The maximum number of detections per image."""
        raise NotImplementedError

    def with_max_detections(self: AnyDetectorConfig, value: int) -> AnyDetectorConfig:
        """This configuration with another maximum number of detections per image."""
        raise NotImplementedError

    def architecture(self) -> Hashable:
        found: Any = super().architecture()
        return replace(found, canvas="image")

    def fixed_by_weights(self: AnyDetectorConfig, stored: Any) -> AnyDetectorConfig:
        """Takes the backbone and the pyramid from the weights; see `ModelConfig.fixed_by_weights`."""
        check_same_backbone(self, stored)
        backbone = None if stored.backbone is None else backbone_of_weights(self.backbone, stored.backbone)
        fpn = replace(stored.fpn, norm=norm_of_weights(self.fpn.norm, stored.fpn.norm))
        found: Any = replace(self, backbone=backbone, fpn=fpn)  # type: ignore[type-var]
        return found


def check_kind(ours: DetectorConfig, stored: Any, kind: type) -> None:
    """Refuses to start a run from weights of another kind of model.

    Args:
        kind: the configuration type that the weights have to have.

    Raises:
        ValueError: they are of another kind. The message continues a sentence about the weights.
    """
    check_same_backbone(ours, stored)
    if isinstance(stored, kind):
        return
    mine, theirs = (type(config).__name__.removesuffix("Config") for config in (ours, stored))
    raise ValueError(
        f"holds a {theirs}, but the run trains a {mine}: give weights of a {mine}, or weights for its backbone alone "
        "as backbone_weights"
    )

"""The configuration of a detector: one child a part."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxdet.backbones import Darknet53Config, MobileNetV1Config, ResNetConfig
from jaxdet.heads import BoxConfig, RPNConfig
from jaxdet.necks import ContextConfig
from jaxdet.nn import NormConfig
from jaxdet.ops.pixels import IMAGENET_MEAN, IMAGENET_STD

BackboneConfig = ResNetConfig | MobileNetV1Config | Darknet53Config


@dataclass(frozen=True)
class DetectorTransform:
    """How a detector wants its images (torchvision's ``GeneralizedRCNNTransform``).

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
    kind: ``"torchvision"``, or ``"retinaface"`` for three levels without ``pool``.
    """

    levels: tuple[str, ...] = ("layer1", "layer2", "layer3", "layer4")
    out_channels: int = 256
    norm: NormConfig | None = None
    pool: bool = True
    kind: str = "torchvision"

    def __post_init__(self) -> None:
        if self.kind not in ("torchvision", "retinaface"):
            raise ValueError(f'the pyramid is "torchvision" or "retinaface", not {self.kind!r}')
        if self.out_channels < 1:
            raise ValueError(f"fpn_out_channels is at least 1, not {self.out_channels}")
        if self.kind == "retinaface" and (len(self.levels) != 3 or self.pool):
            raise ValueError(f"RetinaFace's pyramid has three levels and no pool, not {self.levels}, pool={self.pool}")


@dataclass(frozen=True)
class FasterRCNNConfig:
    """Faster R-CNN with a feature pyramid.

    backbone: None where the caller brought a module of their own.
    num_classes: with the background.
    upscale_rpn: double the pyramid's maps by learned layers, one before the RPN and one before RoI pooling.
    names: of the classes, index 0 the background; empty: unknown.
    canvas: ``"image"``: an image's result does not depend on its batch mates or on padding; ``"fast"``: nothing is
        masked, so it does a little.
    """

    backbone: BackboneConfig | None = field(default_factory=ResNetConfig)
    fpn: FPNConfig = field(default_factory=FPNConfig, metadata={"options": "fpn_"})
    context: ContextConfig = field(default_factory=ContextConfig, metadata={"options": "context_"})
    upscale_rpn: bool = False
    rpn: RPNConfig = field(default_factory=RPNConfig, metadata={"options": "rpn_"})
    box: BoxConfig = field(default_factory=BoxConfig, metadata={"options": "box_"})
    transform: DetectorTransform = field(default_factory=DetectorTransform, metadata={"options": ""})
    num_classes: int = 91
    names: tuple[str, ...] = ()
    canvas: str = "image"

    def __post_init__(self) -> None:
        if not isinstance(self.num_classes, int) or self.num_classes < 2:
            raise ValueError(f"num_classes is at least 2, the background and one class, not {self.num_classes!r}")
        if self.canvas not in ("image", "fast"):
            raise ValueError(f'canvas is "image" or "fast", not {self.canvas!r}')
        if self.names and len(self.names) != self.num_classes:
            raise ValueError(f"{len(self.names)} class names for num_classes={self.num_classes}, background included")

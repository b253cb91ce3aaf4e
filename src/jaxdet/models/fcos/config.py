"""Configuration of FCOS."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxdet.backbones import BackboneConfig, ResNetConfig
from jaxdet.heads import AnchorGenerator
from jaxdet.models.config import DetectorTransform, FPNConfig
from jaxdet.models.dense_config import DenseDetectorConfig
from jaxdet.nn import NormConfig


@dataclass(frozen=True)
class FCOSConfig(DenseDetectorConfig):
    """FCOS, with torchvision's option names. `DenseDetectorConfig` documents the shared fields.

    anchor_generator: one square anchor per location; its size is the nominal stride of the level, which is the unit of
        the box deltas and of the ranges of target assignment.
    center_sampling_radius: locations are positive only within this many strides of the centre of a ground-truth box,
        horizontally and vertically.
    """

    backbone: BackboneConfig | None = field(default_factory=lambda: ResNetConfig(num_classes=None))
    fpn: FPNConfig = field(
        default_factory=lambda: FPNConfig(("layer2", "layer3", "layer4"), pool=False, p6p7="p5"),
        metadata={"options": "fpn_"},
    )
    anchor_generator: AnchorGenerator = field(default_factory=lambda: AnchorGenerator((8, 16, 32, 64, 128), (1.0,)))
    head_norm: NormConfig | None = field(default_factory=lambda: NormConfig("group"))
    score_thresh: float = 0.2
    nms_thresh: float = 0.6
    detections_per_img: int = 100
    topk_candidates: int = 1000
    center_sampling_radius: float = 1.5
    ignore_thresh: float | None = 0.5
    transform: DetectorTransform = field(default_factory=DetectorTransform, metadata={"options": ""})
    num_classes: int = 91
    names: tuple[str, ...] = ()
    canvas: str = "image"

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = self.anchor_generator.num_anchors_per_location()
        if set(counts) != {1}:
            raise ValueError(f"FCOS needs one anchor per location, not {counts}: give one size and one ratio per level")
        if self.center_sampling_radius <= 0:
            raise ValueError(f"center_sampling_radius must be above 0, not {self.center_sampling_radius}")

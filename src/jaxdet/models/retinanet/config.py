"""Configuration of RetinaNet."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from jaxdet.backbones import BackboneConfig, ResNetConfig
from jaxdet.base import norm_of_weights
from jaxdet.heads import AnchorGenerator
from jaxdet.models.config import (
    AnchorReport,
    DetectorConfig,
    DetectorTransform,
    FPNConfig,
    anchor_counts,
    check_kind,
)
from jaxdet.models.retinanet.losses import BOX_LOSSES
from jaxdet.nn import NormConfig

RATIOS = (0.5, 1.0, 2.0)


def three_octaves(size: int) -> tuple[int, int, int]:
    """Three anchor sizes in whole pixels: ``size`` times 1, 2^(1/3) and 2^(2/3)."""
    return size, int(size * 2 ** (1 / 3)), int(size * 2 ** (2 / 3))


@dataclass(frozen=True)
class RetinaNetConfig(DetectorConfig):
    """RetinaNet, with torchvision's option names. `jaxdet.models.config.DetectorConfig` documents the shared fields.

    head_norm: the norm after each convolution of the head except the last (torchvision's v2: group norms); None: the
        convolutions have biases instead.
    box_loss: ``"l1"`` on the box deltas, or ``"giou"`` on the decoded boxes (torchvision's v2).
    score_thresh: detections have scores above this.
    nms_thresh: IoU threshold of the NMS within each class.
    detections_per_img: maximum number of detections per image.
    topk_candidates: maximum number of (anchor, class) pairs per level that enter NMS.
    fg_iou_thresh: an anchor with at least this IoU with a ground-truth box is positive.
    bg_iou_thresh: an anchor with an IoU below this with every ground-truth box is negative.
    ignore_thresh: a negative anchor is ignored if at least this fraction of its area lies in an ignored region;
        None: never.
    """

    predictor: ClassVar[tuple[str, ...]] = ("head.classification.output.",)
    trained_with: ClassVar[tuple[str, ...]] = ("anchor_generator", *DetectorConfig.trained_with)

    backbone: BackboneConfig | None = field(default_factory=lambda: ResNetConfig(num_classes=None))
    fpn: FPNConfig = field(
        default_factory=lambda: FPNConfig(("layer2", "layer3", "layer4"), pool=False, p6p7="p5"),
        metadata={"options": "fpn_"},
    )
    anchor_generator: AnchorGenerator = field(
        default_factory=lambda: AnchorGenerator(tuple(three_octaves(32 * 2**level) for level in range(5)), RATIOS)
    )
    head_norm: NormConfig | None = None
    box_loss: str = "l1"
    score_thresh: float = 0.05
    nms_thresh: float = 0.5
    detections_per_img: int = 300
    topk_candidates: int = 1000
    fg_iou_thresh: float = 0.5
    bg_iou_thresh: float = 0.4
    ignore_thresh: float | None = 0.5
    transform: DetectorTransform = field(default_factory=DetectorTransform, metadata={"options": ""})
    num_classes: int = 91
    names: tuple[str, ...] = ()
    canvas: str = "image"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.box_loss not in BOX_LOSSES:
            raise ValueError(f"box_loss must be one of {', '.join(BOX_LOSSES)}, not {self.box_loss!r}")
        if self.bg_iou_thresh > self.fg_iou_thresh:
            raise ValueError(
                f"bg_iou_thresh {self.bg_iou_thresh} is above fg_iou_thresh {self.fg_iou_thresh}: swap them"
            )
        for name in ("topk_candidates", "detections_per_img"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")

    @property
    def score_threshold(self) -> float:
        return self.score_thresh

    def with_score_threshold(self, value: float) -> RetinaNetConfig:
        return replace(self, score_thresh=value)

    @property
    def max_detections(self) -> int:
        return self.detections_per_img

    def with_max_detections(self, value: int) -> RetinaNetConfig:
        return replace(self, detections_per_img=value)

    def anchors(self) -> AnchorReport:
        return AnchorReport(self.anchor_generator, self.fg_iou_thresh)

    def architecture(self) -> Hashable:
        built: Any = super().architecture()
        return RetinaNetConfig(
            backbone=built.backbone,
            fpn=built.fpn,
            anchor_generator=anchor_counts(self.anchor_generator),
            head_norm=self.head_norm,
            num_classes=self.num_classes,
        )

    def fixed_by_weights(self, stored: Any) -> RetinaNetConfig:
        """Also takes the head's norms, and the anchors if their number per location differs."""
        check_kind(self, stored, RetinaNetConfig)
        found: Any = super().fixed_by_weights(stored)
        old, new = stored.anchor_generator, self.anchor_generator
        same_count = old.num_anchors_per_location() == new.num_anchors_per_location()
        norm = norm_of_weights(self.head_norm, stored.head_norm)
        return replace(found, anchor_generator=new if same_count else old, head_norm=norm)

"""Configuration of RetinaNet."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxdet.backbones import BackboneConfig, ResNetConfig
from jaxdet.heads import AnchorGenerator
from jaxdet.models.config import AnchorReport, DetectorTransform, FPNConfig
from jaxdet.models.dense_config import DenseDetectorConfig
from jaxdet.models.retinanet.losses import BOX_LOSSES
from jaxdet.nn import NormConfig

RATIOS = (0.5, 1.0, 2.0)


def three_octaves(size: int) -> tuple[int, int, int]:
    """Three anchor sizes in whole pixels: ``size`` times 1, 2^(1/3) and 2^(2/3)."""
    return size, int(size * 2 ** (1 / 3)), int(size * 2 ** (2 / 3))


@dataclass(frozen=True)
class RetinaNetConfig(DenseDetectorConfig):
    """RetinaNet, with torchvision's option names. `DenseDetectorConfig` documents the shared fields.

    head_norm: group norms in torchvision's v2. Without norms the convolutions have biases.
    box_loss: ``"l1"`` on the box deltas, or ``"giou"`` on the decoded boxes (torchvision's v2).
    fg_iou_thresh: an anchor with at least this IoU with a ground-truth box is positive.
    bg_iou_thresh: an anchor with an IoU below this with every ground-truth box is negative.
    """

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

    def anchors(self) -> AnchorReport:
        return AnchorReport(self.anchor_generator, self.fg_iou_thresh)

"""Configuration of Faster R-CNN."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from jaxdet.backbones import BackboneConfig, ResNetConfig
from jaxdet.base import norm_of_weights
from jaxdet.heads import AnchorGenerator, BoxConfig, RPNConfig
from jaxdet.models.config import (
    AnchorReport,
    DetectorConfig,
    DetectorTransform,
    FPNConfig,
    anchor_counts,
    check_kind,
)


@dataclass(frozen=True)
class FasterRCNNConfig(DetectorConfig):
    """Faster R-CNN with a feature pyramid. `jaxdet.models.config.DetectorConfig` documents the shared fields.

    rpn: anchors, head and proposals of the region proposal network.
    box: the second stage.
    """

    predictor: ClassVar[tuple[str, ...]] = ("box_predictor.",)
    trained_with: ClassVar[tuple[str, ...]] = (
        "rpn_anchor_generator", *DetectorConfig.trained_with, "bbox_reg_weights", "box_sampling_ratio",
        "box_pool_levels",
    )  # fmt: skip

    backbone: BackboneConfig | None = field(default_factory=ResNetConfig)
    fpn: FPNConfig = field(default_factory=FPNConfig, metadata={"options": "fpn_"})
    rpn: RPNConfig = field(default_factory=RPNConfig, metadata={"options": "rpn_"})
    box: BoxConfig = field(default_factory=BoxConfig, metadata={"options": "box_"})
    transform: DetectorTransform = field(default_factory=DetectorTransform, metadata={"options": ""})
    num_classes: int = 91
    names: tuple[str, ...] = ()
    canvas: str = "image"

    @property
    def score_threshold(self) -> float:
        return self.box.score_thresh

    def with_score_threshold(self, value: float) -> FasterRCNNConfig:
        return replace(self, box=replace(self.box, score_thresh=value))

    @property
    def max_detections(self) -> int:
        return self.box.detections_per_img

    def with_max_detections(self, value: int) -> FasterRCNNConfig:
        return replace(self, box=replace(self.box, detections_per_img=value))

    def anchors(self) -> AnchorReport:
        return AnchorReport(self.rpn.anchor_generator, self.rpn.fg_iou_thresh)

    def architecture(self) -> Hashable:
        box = self.box
        built: Any = super().architecture()
        return replace(
            built,
            rpn=RPNConfig(anchor_counts(self.rpn.anchor_generator), conv_depth=self.rpn.conv_depth),
            box=BoxConfig(box.representation_size, box.conv_layers, box.norm, box.output_size),
        )

    def fixed_by_weights(self, stored: Any) -> FasterRCNNConfig:
        """Also takes the layers of both heads, and the anchors if their number per location differs."""
        check_kind(self, stored, FasterRCNNConfig)
        found: Any = super().fixed_by_weights(stored)
        pool, anchors = self._fit_anchors(stored)
        rpn = replace(self.rpn, conv_depth=stored.rpn.conv_depth, anchor_generator=anchors)
        return replace(found, fpn=replace(found.fpn, pool=pool), rpn=rpn, box=self._fit_box(stored))

    def _fit_anchors(self, stored: Any) -> tuple[bool, AnchorGenerator]:
        """Whether the pyramid has a pooled level, and the anchors: this configuration's if the weights allow them."""
        pool, old, new = self.fpn.pool, stored.rpn.anchor_generator, self.rpn.anchor_generator
        pool_fits = pool == stored.fpn.pool or (not stored.has_context and stored.fpn.kind == "torchvision")
        same_count = set(old.num_anchors_per_location()) == set(new.num_anchors_per_location())
        if same_count and pool_fits and len(new.sizes) == len(stored.fpn.levels) + pool:
            return pool, new
        return stored.fpn.pool, old

    @property
    def has_context(self) -> bool:
        """Whether every level has a context module. The pyramid then has no extra levels."""
        return False

    def _fit_box(self, stored: Any) -> BoxConfig:
        old, new = stored.box, self.box
        norm = new.norm
        if old.conv_layers:
            norm = norm_of_weights(new.norm, old.norm) or old.norm
        known = new.pool_levels is None or set(new.pool_levels) <= set(stored.fpn.levels)
        return replace(
            new,
            representation_size=old.representation_size,
            conv_layers=old.conv_layers,
            norm=norm,
            output_size=old.output_size,
            pool_levels=new.pool_levels if known else old.pool_levels,
        )

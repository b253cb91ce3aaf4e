"""The parent class of the configurations of dense detectors."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from jaxdet.base import norm_of_weights
from jaxdet.heads import AnchorGenerator
from jaxdet.models.config import DetectorConfig, anchor_counts, check_kind
from jaxdet.nn import NormConfig

AnyDenseConfig = TypeVar("AnyDenseConfig", bound="DenseDetectorConfig")


class DenseDetectorConfig(DetectorConfig):
    """The parent of the configurations of detectors that predict at every location of a feature pyramid.

    Every subclass has these fields, with torchvision's names, and those of `DetectorConfig`:

    anchor_generator: the anchors; every location has the same number of them.
    head_norm: the norm after each convolution of the head except the last; None: no norm.
    score_thresh: detections have scores above this.
    nms_thresh: IoU threshold of the NMS within each class.
    detections_per_img: maximum number of detections per image.
    topk_candidates: maximum number of (anchor, class) pairs per level that enter NMS.
    ignore_thresh: a negative anchor is ignored if at least this fraction of its area lies in an ignored region;
        None: never.
    """

    predictor: ClassVar[tuple[str, ...]] = ("head.classification.output.",)
    trained_with: ClassVar[tuple[str, ...]] = ("anchor_generator", *DetectorConfig.trained_with)

    anchor_generator: AnchorGenerator
    head_norm: NormConfig | None
    score_thresh: float
    nms_thresh: float
    detections_per_img: int
    topk_candidates: int
    ignore_thresh: float | None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("topk_candidates", "detections_per_img"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")

    @property
    def score_threshold(self) -> float:
        return self.score_thresh

    def with_score_threshold(self: AnyDenseConfig, value: float) -> AnyDenseConfig:
        found: Any = replace(self, score_thresh=value)  # type: ignore[type-var]
        return found

    @property
    def max_detections(self) -> int:
        return self.detections_per_img

    def with_max_detections(self: AnyDenseConfig, value: int) -> AnyDenseConfig:
        found: Any = replace(self, detections_per_img=value)  # type: ignore[type-var]
        return found

    def architecture(self) -> Hashable:
        built: Any = super().architecture()
        kind: Any = type(self)
        return kind(
            backbone=built.backbone,
            fpn=built.fpn,
            anchor_generator=anchor_counts(self.anchor_generator),
            head_norm=self.head_norm,
            num_classes=self.num_classes,
        )

    def fixed_by_weights(self: AnyDenseConfig, stored: Any) -> AnyDenseConfig:
        """Also takes the head's norms, and the anchors if their number per location differs."""
        check_kind(self, stored, type(self))
        found: Any = super().fixed_by_weights(stored)
        old, new = stored.anchor_generator, self.anchor_generator
        same_count = old.num_anchors_per_location() == new.num_anchors_per_location()
        norm = norm_of_weights(self.head_norm, stored.head_norm)
        changed: Any = replace(found, anchor_generator=new if same_count else old, head_norm=norm)
        return changed

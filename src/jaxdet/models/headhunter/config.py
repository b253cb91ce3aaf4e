"""Configuration of HeadHunter."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any

from jaxdet.base import norm_of_weights
from jaxdet.models.faster_rcnn.config import FasterRCNNConfig
from jaxdet.necks import ContextConfig
from jaxdet.ops.suppression.soft import SoftNMS


@dataclass(frozen=True)
class HeadHunterConfig(FasterRCNNConfig):
    """Faster R-CNN with HeadHunter's additions.

    context: context modules between the pyramid and the heads.
    upscale_rpn: double the size of the pyramid's maps with learned layers, one before the RPN, one before RoI pooling.
    soft_nms: soft-NMS in place of NMS; True is short for ``SoftNMS()``.
    """

    context: ContextConfig = field(default_factory=ContextConfig, metadata={"options": "context_"})
    upscale_rpn: bool = False
    soft_nms: SoftNMS | None = field(default=None, metadata={"also": bool})

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.soft_nms, bool):
            object.__setattr__(self, "soft_nms", SoftNMS() if self.soft_nms else None)
        if self.soft_nms is not None and not isinstance(self.soft_nms, SoftNMS):
            raise ValueError(f"soft_nms must be True, False or a jaxdet.ops.SoftNMS, not {self.soft_nms!r}")

    @property
    def has_context(self) -> bool:
        return self.context.kind is not None

    def architecture(self) -> Hashable:
        built: Any = super().architecture()
        return replace(built, soft_nms=None)

    def fixed_by_weights(self, stored: Any) -> HeadHunterConfig:
        """Also takes context modules and upscaling; weights of a plain Faster R-CNN have neither."""
        found: Any = super().fixed_by_weights(stored)
        theirs = getattr(stored, "context", ContextConfig())
        context = replace(self.context, kind=None)
        if theirs.kind is not None:
            context = replace(theirs, norm=norm_of_weights(self.context.norm, theirs.norm))
        return replace(found, context=context, upscale_rpn=getattr(stored, "upscale_rpn", False))

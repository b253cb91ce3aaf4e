"""The HeadHunter model: Faster R-CNN with context modules, learned upscaling and soft-NMS."""

from __future__ import annotations

from flax import nnx
from jax import Array

from jaxdet.heads import RoIOutputs, postprocess
from jaxdet.models.detector import Features, Stage
from jaxdet.models.faster_rcnn.model import FasterRCNN
from jaxdet.models.headhunter.config import HeadHunterConfig
from jaxdet.necks import make_context
from jaxdet.nn import Upscale
from jaxdet.types import Detections, Images, Proposals


class HeadHunter(FasterRCNN):
    """HeadHunter. `HeadHunterConfig` documents what it adds to `jaxdet.FasterRCNN`."""

    config: HeadHunterConfig

    def _make_necks(self, rngs: nnx.Rngs) -> None:
        config, numerics = self.config, self.numerics
        if config.has_context and len(config.fpn.all_levels) != len(config.fpn.levels):
            raise ValueError("context modules exclude extra pyramid levels: give fpn_pool=False with them")
        width, levels = config.fpn.out_channels, len(config.fpn.levels)
        self.context = nnx.data(make_context(config.context, width, levels, numerics=numerics, rngs=rngs))
        upscale = config.upscale_rpn
        self.rpn_upscale = nnx.data(Upscale(width, numerics=numerics, rngs=rngs) if upscale else None)
        self.box_upscale = nnx.data(Upscale(width, numerics=numerics, rngs=rngs) if upscale else None)

    @property
    def scale(self) -> int:
        """The upscaling factor between the pyramid's maps and those of RPN and RoI pooling."""
        return 2 if self.config.upscale_rpn else 1

    def anchor_strides(self) -> tuple[int, ...]:
        return tuple(stride // self.scale for stride in super().anchor_strides())

    def pool_strides(self) -> tuple[int, ...]:
        return tuple(stride // self.scale for stride in super().pool_strides())

    def pyramid(self, maps: Features, images: Images, *, train: bool = False) -> Features:
        """The pyramid's feature maps ``{name: [B, H_l, W_l, C]}`` after the context modules, if any."""
        return self._apply_context(super().pyramid(maps, images, train=train), images, train=train)

    def _apply_context(self, features: Features, images: Images, *, train: bool = False) -> Features:
        if self.context is None:
            return features
        extents = self.map_extents(images)
        return features | {
            level: module(features[level], extents[level], train=train)
            for level, module in zip(self.config.fpn.levels, self.context, strict=True)
        }

    def rpn_maps(self, features: Features, images: Images) -> tuple[Features, dict[str, Array | None]]:
        return _upscaled(self.rpn_upscale, *super().rpn_maps(features, images))

    def pooled_maps(self, features: Features, images: Images) -> tuple[Features, dict[str, Array | None]]:
        return _upscaled(self.box_upscale, *super().pooled_maps(features, images))

    def postprocess(self, outputs: RoIOutputs, proposals: Proposals, sizes: Array) -> Detections:
        """See `jaxdet.heads.postprocess`."""
        return postprocess(outputs, proposals, sizes, self.config.box, self.config.soft_nms)

    def suppression(self) -> str:
        return super().suppression() if self.config.soft_nms is None else f"{self.config.soft_nms.kind} soft-NMS"

    def stages(self, images: Images) -> list[Stage]:
        found = super().stages(images)
        upscaling = "each map twice as high and wide"
        context = f"{self.config.context.kind}, one module per level"
        added = {  # by the neighbouring stage: the added stage, and whether it comes after
            "FPN": (Stage((), "Context", context, (), module="context"), True),
            "RPN head": (Stage((), "RPN upscaling", upscaling, (), module="rpn_upscale"), False),
            "RoIAlign": (Stage((), "RoI upscaling", upscaling, (), module="box_upscale"), False),
        }
        stages = []
        for stage in found:
            extra, after = added.get(stage.name, (None, False))
            extras = [] if extra is None or getattr(self, extra.module) is None else [extra]
            stages += [stage, *extras] if after else [*extras, stage]
        return stages


def _upscaled(
    upscale: Upscale | None, features: Features, extents: dict[str, Array | None]
) -> tuple[Features, dict[str, Array | None]]:
    """The upscaled feature maps and their extents."""
    if upscale is None:
        return features, extents
    features = {level: upscale(x, extents[level]) for level, x in features.items()}
    return features, {level: None if extent is None else 2 * extent for level, extent in extents.items()}

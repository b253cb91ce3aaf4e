"""The smallest detector that has every part: for tests whose time is that of compiling, in process after process."""

from __future__ import annotations

from flax import nnx

from jaxdet.heads import AnchorGenerator, BoxConfig, RPNConfig
from jaxdet.models import DetectorTransform, FasterRCNNConfig, FPNConfig, RetinaNetConfig
from jaxdet.nn import ConvNormAct, NormConfig, Numerics, strided

# XLA's flags for programs that run for a moment.
FAST_COMPILE = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


class Body(nnx.Module):
    """Three convolutions with batch statistics."""

    channels = {"c3": 24}  # noqa: RUF012
    strides = {"c3": 8}  # noqa: RUF012
    masks_padding = True

    def __init__(self, *, numerics: Numerics, rngs: nnx.Rngs):
        self.layers = nnx.List(
            ConvNormAct(*widths, 3, stride=2, norm=NormConfig(), numerics=numerics, rngs=rngs)
            for widths in ((3, 8), (8, 16), (16, 24))
        )

    def features(self, x, extents=None, *, train=False):
        for layer in self.layers:
            x = layer(x, extents, train=train)
            extents = strided(extents, 2)
        return {"c3": x}


def small_config(**options) -> FasterRCNNConfig:
    """Of a detector that stands on a `Body`; the options are its fields."""
    return FasterRCNNConfig(
        backbone=None,
        fpn=FPNConfig(levels=("c3",), out_channels=16, pool=False),
        rpn=RPNConfig(
            AnchorGenerator(((16, 24),), (1.0,)),
            batch_size_per_image=16,
            pre_nms_top_n_train=30,
            post_nms_top_n_train=16,
            pre_nms_top_n_test=30,
            post_nms_top_n_test=16,
        ),
        box=BoxConfig(representation_size=16, batch_size_per_image=8, score_thresh=0.01, detections_per_img=20),
        transform=DetectorTransform(min_size=32, max_size=64),
        **options,
    )


def small_retinanet_config(**options) -> RetinaNetConfig:
    """The same of a RetinaNet, with P6 and P7 and group norms."""
    return RetinaNetConfig(
        backbone=None,
        fpn=FPNConfig(levels=("c3",), out_channels=16, pool=False, p6p7="p5"),
        anchor_generator=AnchorGenerator(((16, 24),) * 3, (1.0,)),
        head_norm=NormConfig("group", groups=4),
        box_loss="giou",
        score_thresh=0.001,
        topk_candidates=30,
        detections_per_img=20,
        transform=DetectorTransform(min_size=32, max_size=64),
        **options,
    )

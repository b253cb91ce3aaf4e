"""Detectors that compile quickly: a small one for training, on a custom backbone, and a tiny named one.

Depthwise convolutions compile slowly on a CPU, and MobileNetV1 has thirteen: compiling a train step of `small_config`
takes a fifth of the time of `tiny_config`.
"""

from __future__ import annotations

from dataclasses import fields

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxdet.heads import AnchorGenerator, BoxConfig, RPNConfig
from jaxdet.models import (
    DetectorConfig,
    DetectorTransform,
    FasterRCNNConfig,
    FCOSConfig,
    FPNConfig,
    HeadHunterConfig,
    RetinaNetConfig,
    build,
    detector_config,
)
from jaxdet.nn import ConvNormAct, NormConfig, Numerics, strided
from jaxdet.types import Images, Targets

# XLA flags for programs that run only briefly.
FAST_COMPILE = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"

# Options of `tiny_config` that halve the time to compile and keep every stage of the detector.
ONE_LEVEL = {"fpn_levels": ("stage1",), "fpn_pool": False, "rpn_anchor_generator": AnchorGenerator((24,), (1.0,))}


class SmallBackbone(nnx.Module):
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
    """The configuration of a detector on a `SmallBackbone`. Options are fields of `FasterRCNNConfig`."""
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
        **{"transform": DetectorTransform(min_size=32, max_size=64), **options},
    )


def small_retinanet_config(**options) -> RetinaNetConfig:
    """The configuration of a RetinaNet on a `SmallBackbone`, with P6, P7 and group norms."""
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


def small_fcos_config(**options) -> FCOSConfig:
    """FCOS on the same backbone."""
    return FCOSConfig(
        backbone=None,
        fpn=FPNConfig(levels=("c3",), out_channels=16, pool=False, p6p7="p5"),
        anchor_generator=AnchorGenerator((8, 16, 32), (1.0,)),
        head_norm=NormConfig("group", groups=4),
        score_thresh=0.001,
        topk_candidates=30,
        detections_per_img=20,
        transform=DetectorTransform(min_size=32, max_size=64),
        **options,
    )


FAMILIES = {"faster_rcnn": small_config, "retinanet": small_retinanet_config, "fcos": small_fcos_config}


def small_detector(config: DetectorConfig | None = None, numerics: Numerics = Numerics()):
    """A detector on a `SmallBackbone`, by default with four classes."""
    rngs = nnx.Rngs(0)
    backbone = SmallBackbone(numerics=numerics, rngs=rngs)
    return build(config or small_config(num_classes=4), backbone=backbone, numerics=numerics, rngs=rngs)


def tiny_config(**options):
    """The configuration of a named detector, which can be saved and loaded without passing a backbone."""
    values = {
        "num_classes": 4,
        "min_size": 64,
        "max_size": 96,
        "backbone_width": 0.25,
        "fpn_out_channels": 16,
        "rpn_anchor_generator": AnchorGenerator((16, 32, 48, 64), (1.0,)),
        "rpn_pre_nms_top_n_train": 50,
        "rpn_post_nms_top_n_train": 30,
        "rpn_pre_nms_top_n_test": 50,
        "rpn_post_nms_top_n_test": 30,
        "rpn_batch_size_per_image": 32,
        "box_batch_size_per_image": 16,
        "box_representation_size": 32,
        "box_score_thresh": 0.01,
    }
    return detector_config("fasterrcnn_mobilenet_v1_fpn", **values | options)


def as_headhunter(config: FasterRCNNConfig) -> HeadHunterConfig:
    """The same configuration as a `HeadHunterConfig`, which has further options."""
    return HeadHunterConfig(**{each.name: getattr(config, each.name) for each in fields(config)})


def make_batch(batch=2, canvas=(64, 96), seed=0):
    """Images of noise with up to two objects each."""
    rng = np.random.default_rng(seed)
    sizes = np.stack([rng.integers(40, canvas[0] + 1, batch), rng.integers(40, canvas[1] + 1, batch)], 1)
    pixels = rng.normal(size=(batch, *canvas, 3)).astype(np.float32)
    corner = rng.uniform(0, 20, (batch, 3, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(10, 20, (batch, 3, 2))], -1).astype(np.float32)
    valid = np.array([[True, True, False]] * batch)
    valid[0] = False  # an image without objects
    labels = rng.integers(1, 4, (batch, 3)).astype(np.int32)
    images = Images(jnp.asarray(pixels), jnp.asarray(sizes, jnp.int32))
    return images, Targets(jnp.asarray(boxes), jnp.asarray(labels), jnp.asarray(valid))

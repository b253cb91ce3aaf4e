"""The region proposal network's head: objectness and box deltas at every anchor.

Axes: B images, A anchors of a location, N = H * W * A anchors of a level.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import jax
from flax import nnx
from jax import Array

from jaxdet.heads.anchors import AnchorGenerator
from jaxdet.nn import Conv, ConvNormAct, Normal, Numerics

MOST_CONVOLUTIONS = 100  # a stored configuration that asks for more is damaged


@dataclass(frozen=True)
class RPNConfig:
    """Region proposal network; the names and defaults of torchvision's ``rpn_*`` options.

    conv_depth: 3x3 convolutions before the two predictions (1; 2 in torchvision's v2).
    pre_nms_top_n_*: anchors a level that enter NMS; post_nms_top_n_*: proposals an image that leave it.
    fg_iou_thresh, bg_iou_thresh, batch_size_per_image, positive_fraction: which anchors the loss samples.
    smooth_l1_beta: where the box loss turns from quadratic to linear.
    ignore_thresh: an anchor of which this share lies in an ignored region is no background; None: all are.
    """

    anchor_generator: AnchorGenerator = field(
        default_factory=lambda: AnchorGenerator(((32,), (64,), (128,), (256,), (512,)), (0.5, 1.0, 2.0))
    )
    conv_depth: int = 1
    pre_nms_top_n_train: int = 2000
    pre_nms_top_n_test: int = 1000
    post_nms_top_n_train: int = 2000
    post_nms_top_n_test: int = 1000
    nms_thresh: float = 0.7
    score_thresh: float = 0.0
    fg_iou_thresh: float = 0.7
    bg_iou_thresh: float = 0.3
    batch_size_per_image: int = 256
    positive_fraction: float = 0.5
    smooth_l1_beta: float = 1 / 9
    ignore_thresh: float | None = 0.5

    def __post_init__(self) -> None:
        if not 1 <= self.conv_depth <= MOST_CONVOLUTIONS:
            raise ValueError(f"rpn_conv_depth is from 1 to {MOST_CONVOLUTIONS}, not {self.conv_depth}")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RPNOutputs:
    """One entry a level; ``valid`` is False for anchors beyond an image's own part of the canvas."""

    logits: tuple[Array, ...]  # [B, N]
    deltas: tuple[Array, ...]  # [B, N, 4] relative to the anchors
    anchors: tuple[Array, ...]  # [B, N, 4] xyxy
    valid: tuple[Array, ...]  # [B, N] bool


class RPNHead(nnx.Module):
    """torchvision's ``RPNHead``: 3x3 convolutions with ReLU, then two 1x1 predictions, shared by all levels."""

    def __init__(
        self,
        in_channels: int,
        num_anchors: int,
        *,
        conv_depth: int = 1,
        numerics: Numerics = Numerics(),
        rngs: nnx.Rngs,
    ):
        init = Normal(0.01)
        self.conv = nnx.List(
            ConvNormAct(in_channels, in_channels, 3, kernel_init=init, numerics=numerics, rngs=rngs)
            for _ in range(conv_depth)
        )
        self.cls_logits = Conv(in_channels, num_anchors, 1, kernel_init=init, numerics=numerics, rngs=rngs)
        self.bbox_pred = Conv(in_channels, 4 * num_anchors, 1, kernel_init=init, numerics=numerics, rngs=rngs)

    def __call__(
        self, maps: Mapping[str, Array], extents: Mapping[str, Array | None] | None = None
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Maps ``[B, H, W, C]`` a level to logits ``[B, N]`` and deltas ``[B, N, 4]`` a level, in the maps' order."""
        logits, deltas = [], []
        for name, x in maps.items():
            for conv in self.conv:
                x = conv(x, None if extents is None else extents[name])
            batch = x.shape[0]
            logits.append(self.cls_logits(x).reshape(batch, -1))
            deltas.append(self.bbox_pred(x).reshape(batch, -1, 4))
        return tuple(logits), tuple(deltas)

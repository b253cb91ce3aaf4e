"""Head and configuration of the region proposal network.

Axes: B images, A anchors per location, N = H * W * A anchors of a level.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import jax
from flax import nnx
from jax import Array

from jaxdet.heads.anchors import AnchorGenerator
from jaxdet.nn import Conv, ConvNormAct, Normal, Numerics

MOST_CONVOLUTIONS = 100  # a stored configuration with more is damaged


@dataclass(frozen=True)
class RPNConfig:
    """The region proposal network, with the names and defaults of torchvision's ``rpn_*`` options.

    conv_depth: number of 3x3 convolutions before the two predictions (1; 2 in torchvision's v2).
    pre_nms_top_n_*: anchors per level before NMS; post_nms_top_n_*: proposals per image after NMS.
    fg_iou_thresh, bg_iou_thresh, batch_size_per_image, positive_fraction: sampling of anchors for the loss.
    smooth_l1_beta: transition from the quadratic to the linear part of the box loss.
    ignore_thresh: a negative anchor is ignored if at least this fraction of its area lies in an ignored region;
        None: never.
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
            raise ValueError(f"rpn_conv_depth must be from 1 to {MOST_CONVOLUTIONS}, not {self.conv_depth}")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RPNOutputs:
    """The outputs of the region proposal network, one entry per level. Anchors in padding are not valid."""

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
        """Objectness logits and box deltas.

        Args:
            maps: ``[B, H, W, C]`` by level.
            extents: ``[B, 2]`` by level (see `jaxdet.nn.masking`); None: no padding.

        Returns:
            Logits ``[B, N]`` and deltas ``[B, N, 4]`` per level, in the order of the maps.
        """
        logits, deltas = [], []
        for name, x in maps.items():
            for conv in self.conv:
                x = conv(x, None if extents is None else extents[name])
            batch = x.shape[0]
            logits.append(self.cls_logits(x).reshape(batch, -1))
            deltas.append(self.bbox_pred(x).reshape(batch, -1, 4))
        return tuple(logits), tuple(deltas)

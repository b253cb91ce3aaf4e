"""Box heads of the second stage: from pooled features to class logits and box deltas.

Axes: N = B * R proposals of a batch, P x P pooled cells, C channels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxdet.nn import ConvNormAct, Linear, NormConfig, Numerics


@dataclass(frozen=True)
class BoxConfig:
    """The second stage, with the names and defaults of torchvision's ``box_*`` options.

    representation_size: width of the fully connected layers.
    conv_layers: channels of the 3x3 convolutions before one fully connected layer (torchvision's v2);
        empty: two fully connected layers without convolutions.
    norm: the norm after each of these convolutions.
    output_size, sampling_ratio: of RoIAlign.
    class_agnostic_nms: apply NMS over all classes together.
    fg_iou_thresh, bg_iou_thresh, batch_size_per_image, positive_fraction: sampling of proposals for the loss.
    smooth_l1_beta: transition from the quadratic to the linear part of the box loss.
    ohem: number of proposals per image, those with the highest loss, that the classification loss uses; None: all
        sampled ones.
    pool_levels: the pyramid levels that proposals are pooled from; None: all except the pooled one. If levels in
        between are missing, their proposals use the next given level, and the largest proposals get zeros, as
        torchvision does in HeadHunter's ResNet-152.
    ignore_thresh: a negative proposal is ignored if at least this fraction of its area lies in an ignored region;
        None: never.
    """

    representation_size: int = 1024
    conv_layers: tuple[int, ...] = ()
    norm: NormConfig = NormConfig()
    output_size: int = 7
    sampling_ratio: int = 2
    reg_weights: tuple[float, float, float, float] = field(
        default=(10.0, 10.0, 5.0, 5.0), metadata={"option": "bbox_reg_weights"}
    )
    score_thresh: float = 0.05
    nms_thresh: float = 0.5
    detections_per_img: int = 100
    class_agnostic_nms: bool = False
    fg_iou_thresh: float = 0.5
    bg_iou_thresh: float = 0.5
    batch_size_per_image: int = 512
    positive_fraction: float = 0.25
    smooth_l1_beta: float = 1 / 9
    ignore_thresh: float | None = 0.5
    ohem: int | None = field(default=None, metadata={"option": "ohem", "also": bool})
    pool_levels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.ohem is False:
            object.__setattr__(self, "ohem", None)
        if self.ohem is not None and (self.ohem is True or not isinstance(self.ohem, int) or self.ohem < 1):
            raise ValueError(f"ohem must be a number of proposals per image, such as 128, or None, not {self.ohem!r}")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RoIOutputs:
    """The second stage's predictions for every proposal."""

    logits: Array  # [B, R, K]
    deltas: Array  # [B, R, K, 4] relative to the proposals


class TwoMLPHead(nnx.Module):
    """torchvision's ``TwoMLPHead``: two fully connected layers with ReLU."""

    def __init__(self, in_channels: int, representation_size: int, *, numerics: Numerics = Numerics(), rngs: nnx.Rngs):
        self.fc6 = Linear(in_channels, representation_size, numerics=numerics, rngs=rngs)
        self.fc7 = Linear(representation_size, representation_size, numerics=numerics, rngs=rngs)

    def __call__(self, x: Array, valid: Array | None = None, *, train: bool = False) -> Array:
        """Pooled features ``[N, P, P, C]`` to ``[N, representation_size]``, flattened as (P, P, C)."""
        x = x.reshape(x.shape[0], -1)
        return jax.nn.relu(self.fc7(jax.nn.relu(self.fc6(x))))


class FastRCNNConvFCHead(nnx.Module):
    """torchvision's ``FastRCNNConvFCHead``: 3x3 convolutions with norm, then one fully connected layer."""

    def __init__(
        self,
        in_channels: int,
        conv_layers: tuple[int, ...],
        representation_size: int,
        *,
        output_size: int = 7,
        norm: NormConfig = NormConfig(),
        numerics: Numerics = Numerics(),
        rngs: nnx.Rngs,
    ):
        convs = []
        for channels in conv_layers:
            convs.append(ConvNormAct(in_channels, channels, 3, norm=norm, numerics=numerics, rngs=rngs))
            in_channels = channels
        self.convs = nnx.List(convs)
        self.fc = Linear(in_channels * output_size**2, representation_size, numerics=numerics, rngs=rngs)

    def __call__(self, x: Array, valid: Array | None = None, *, train: bool = False) -> Array:
        """Pooled features ``[N, P, P, C]`` to ``[N, representation_size]``. Batch statistics use only ``valid [N]``."""
        side = x.shape[1]
        extents = None if valid is None else jnp.where(valid[:, None], side, 0) * jnp.ones((1, 2), jnp.int32)
        for conv in self.convs:
            x = conv(x, extents if train else None, train=train)
        return jax.nn.relu(self.fc(x.reshape(x.shape[0], -1)))


class FastRCNNPredictor(nnx.Module):
    """torchvision's ``FastRCNNPredictor``: class logits and, per class, box deltas."""

    def __init__(self, in_channels: int, num_classes: int, *, numerics: Numerics = Numerics(), rngs: nnx.Rngs):
        self.cls_score = Linear(in_channels, num_classes, numerics=numerics, rngs=rngs)
        self.bbox_pred = Linear(in_channels, 4 * num_classes, numerics=numerics, rngs=rngs)

    def __call__(self, x: Array) -> tuple[Array, Array]:
        """Features ``[N, F]`` to logits ``[N, K]`` and deltas ``[N, K, 4]``."""
        return self.cls_score(x), self.bbox_pred(x).reshape(x.shape[0], -1, 4)

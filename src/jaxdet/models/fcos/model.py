"""The FCOS model (Tian et al. 2019), equivalent to torchvision's.

Axes: B images, N anchors of a level, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import jax
from flax import nnx
from jax import Array

from jaxdet.base import Losses
from jaxdet.heads.dense_head import DenseHead
from jaxdet.heads.target_assignment import AnchorTargets
from jaxdet.models.dense import PRIOR_LOGIT, DenseDetector
from jaxdet.models.fcos.config import FCOSConfig
from jaxdet.models.fcos.losses import fcos_losses
from jaxdet.models.fcos.outputs import FCOSOutputs
from jaxdet.models.fcos.postprocess import postprocess
from jaxdet.models.fcos.targets import assign_targets
from jaxdet.nn import Conv, Normal, NormConfig, Numerics
from jaxdet.types import Targets


class FCOSRegression(DenseHead):
    """torchvision's ``FCOSRegressionHead``: box distances and centerness from the same convolutions."""

    def __init__(
        self,
        in_channels: int,
        num_anchors: int,
        *,
        norm: NormConfig | None,
        numerics: Numerics,
        rngs: nnx.Rngs,
    ):
        super().__init__(in_channels, num_anchors, 4, norm=norm, use_bias=True, numerics=numerics, rngs=rngs)
        self.centerness = Conv(in_channels, num_anchors, 3, kernel_init=Normal(0.01), numerics=numerics, rngs=rngs)

    def boxes_and_centerness(
        self, maps: Mapping[str, Array], extents: Mapping[str, Array | None], *, train: bool = False
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Per level, distances ``[B, N, 4]``, not negative, and centerness logits ``[B, N]``.

        The arguments are those of `DenseHead`.
        """
        distances, centerness = [], []
        for name, x in maps.items():
            hidden = self.hidden(x, extents[name], train=train)
            batch = x.shape[0]
            distances.append(jax.nn.relu(self.output(hidden)).reshape(batch, -1, 4))
            centerness.append(self.centerness(hidden).reshape(batch, -1))
        return tuple(distances), tuple(centerness)


class FCOSHead(nnx.Module):
    """torchvision's ``FCOSHead``: class logits, box distances and centerness."""

    def __init__(
        self,
        in_channels: int,
        num_anchors: int,
        num_classes: int,
        *,
        norm: NormConfig | None,
        numerics: Numerics = Numerics(),
        rngs: nnx.Rngs,
    ):
        self.classification = DenseHead(
            in_channels,
            num_anchors,
            num_classes,
            norm=norm,
            use_bias=True,
            bias=PRIOR_LOGIT,
            numerics=numerics,
            rngs=rngs,
        )
        self.regression = FCOSRegression(in_channels, num_anchors, norm=norm, numerics=numerics, rngs=rngs)

    def __call__(
        self, maps: Mapping[str, Array], extents: Mapping[str, Array | None], *, train: bool = False
    ) -> tuple[tuple[Array, ...], tuple[Array, ...], tuple[Array, ...]]:
        """Per level, logits ``[B, N, K]``, distances ``[B, N, 4]`` and centerness logits ``[B, N]``."""
        logits = self.classification(maps, extents, train=train)
        return logits, *self.regression.boxes_and_centerness(maps, extents, train=train)


class FCOS(DenseDetector):
    """FCOS. ``detector(images)`` runs ``features -> predict -> detect``.

    Its losses are ``classification``, ``bbox_regression`` and ``bbox_ctrness``.
    """

    config: FCOSConfig
    head_class = FCOSHead
    outputs = FCOSOutputs
    postprocess = staticmethod(postprocess)

    def assigner(self, outputs: FCOSOutputs) -> Callable[[Array, Array, Targets], AnchorTargets]:
        return partial(
            assign_targets,
            counts=tuple(level.shape[1] for level in outputs.anchors),
            center_sampling_radius=self.config.center_sampling_radius,
            ignore_thresh=self.config.ignore_thresh,
        )

    def loss_terms(self, outputs: FCOSOutputs, anchors: Array, assigned: AnchorTargets, present: Array) -> Losses:
        return fcos_losses(outputs, anchors, assigned)

    def predictions(self, outputs: FCOSOutputs) -> dict[str, tuple[Array, ...]]:
        return {**super().predictions(outputs), "centerness": outputs.centerness}

"""The RetinaNet model (Lin et al. 2017), equivalent to torchvision's.

Axes: B images, N anchors of a level, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxdet.base import Losses
from jaxdet.heads.dense_head import DenseHead, DenseOutputs
from jaxdet.heads.target_assignment import AnchorTargets
from jaxdet.models.dense import PRIOR_LOGIT, DenseDetector
from jaxdet.models.retinanet.config import RetinaNetConfig
from jaxdet.models.retinanet.losses import box_regression_loss, classification_loss
from jaxdet.models.retinanet.postprocess import postprocess
from jaxdet.models.retinanet.targets import assign_targets
from jaxdet.nn import NormConfig, Numerics
from jaxdet.types import Targets


class RetinaNetHead(nnx.Module):
    """torchvision's ``RetinaNetHead``: one `DenseHead` for class logits and one for box deltas."""

    def __init__(
        self,
        in_channels: int,
        num_anchors: int,
        num_classes: int,
        *,
        norm: NormConfig | None = None,
        numerics: Numerics = Numerics(),
        rngs: nnx.Rngs,
    ):
        self.classification = DenseHead(
            in_channels, num_anchors, num_classes, norm=norm, bias=PRIOR_LOGIT, numerics=numerics, rngs=rngs
        )
        self.regression = DenseHead(in_channels, num_anchors, 4, norm=norm, numerics=numerics, rngs=rngs)

    def __call__(
        self,
        maps: Mapping[str, Array],
        extents: Mapping[str, Array | None] | None = None,
        *,
        train: bool = False,
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Per level, logits ``[B, N, K]`` and deltas ``[B, N, 4]``. The arguments are those of `DenseHead`."""
        return self.classification(maps, extents, train=train), self.regression(maps, extents, train=train)


class RetinaNet(DenseDetector):
    """RetinaNet. ``detector(images)`` runs ``features -> predict -> detect``.

    Its losses are ``classification`` and ``bbox_regression``.
    """

    config: RetinaNetConfig
    head_class = RetinaNetHead
    postprocess = staticmethod(postprocess)

    def assigner(self, outputs: DenseOutputs) -> Callable[[Array, Array, Targets], AnchorTargets]:
        config = self.config
        return partial(
            assign_targets,
            fg_iou_thresh=config.fg_iou_thresh,
            bg_iou_thresh=config.bg_iou_thresh,
            ignore_thresh=config.ignore_thresh,
        )

    def loss_terms(self, outputs: DenseOutputs, anchors: Array, assigned: AnchorTargets, present: Array) -> Losses:
        deltas = jnp.concatenate(outputs.deltas, axis=1)
        return {
            "classification": classification_loss(outputs.logits, assigned, present),
            "bbox_regression": box_regression_loss(deltas, anchors, assigned, present, self.config.box_loss),
        }

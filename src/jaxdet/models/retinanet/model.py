"""The RetinaNet model (Lin et al. 2017), equivalent to torchvision's.

Axes: B images, L levels, N anchors of a level, K classes, D detections.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.sharding import Mesh

from jaxdet.backbones import Backbone
from jaxdet.base import Losses
from jaxdet.heads.dense_head import DenseHead, DenseOutputs
from jaxdet.models.detector import Detector, Features, Stage, anchor_stage, check_anchors
from jaxdet.models.retinanet.config import RetinaNetConfig
from jaxdet.models.retinanet.losses import box_regression_loss, classification_loss
from jaxdet.models.retinanet.postprocess import postprocess
from jaxdet.models.retinanet.targets import AnchorTargets, assign_targets
from jaxdet.nn import NormConfig, Numerics
from jaxdet.parallel import over_images
from jaxdet.types import Detections, Images, Targets

PRIOR = 0.01  # initial score of every class; pi in the paper, section 4.1


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
        bias = -math.log((1 - PRIOR) / PRIOR)
        self.classification = DenseHead(
            in_channels, num_anchors, num_classes, norm=norm, bias=bias, numerics=numerics, rngs=rngs
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


class RetinaNet(Detector):
    """RetinaNet. ``detector(images)`` runs ``features -> predict -> detect``."""

    config: RetinaNetConfig

    def __init__(self, config: RetinaNetConfig, backbone: Backbone, *, numerics: Numerics = Numerics(), rngs: nnx.Rngs):
        super().__init__(config, backbone, numerics=numerics, rngs=rngs)
        check_anchors(config.anchor_generator, config.fpn, "head")
        self.head = RetinaNetHead(
            config.fpn.out_channels,
            self._anchors_per_location(),
            config.num_classes,
            norm=config.head_norm,
            numerics=numerics,
            rngs=rngs,
        )

    @jax.named_scope("predict")
    def predict(self, features: Features, images: Images, *, train: bool = False) -> DenseOutputs:
        """Class logits, box deltas and anchors of every level. Images of size 0 have no valid anchors."""
        maps = {level: features[level] for level in self.strides}  # jit sorts dicts by name
        extents = self.map_extents(images)
        logits, deltas = self.head(maps, extents, train=train)
        anchors, valid = self.place_anchors(self.config.anchor_generator, maps, extents, images)
        return DenseOutputs(logits, deltas, anchors, valid)

    @jax.named_scope("detect")
    def detect(self, outputs: DenseOutputs, images: Images, *, mesh: Mesh | None = None) -> Detections:
        """The best predictions of every level, NMS within each class, and the best boxes, clipped to each image."""
        config = self.config
        select = partial(
            postprocess,
            score_thresh=config.score_thresh,
            nms_thresh=config.nms_thresh,
            detections_per_img=config.detections_per_img,
            topk_candidates=config.topk_candidates,
        )
        return over_images(select, mesh)(outputs, images.sizes)

    def __call__(self, images: Images, *, mesh: Mesh | None = None) -> Detections:
        return self.detect(self.predict(self.features(images), images), images, mesh=mesh)

    def losses(
        self, images: Images, targets: Targets, keys: Array, *, train: bool = True, mesh: Mesh | None = None
    ) -> Losses:
        """``classification`` and ``bbox_regression``, as torchvision's. ``keys`` are unused."""
        return self._losses(images, targets, train=train, mesh=mesh)[0]

    def losses_and_detections(
        self, images: Images, targets: Targets, keys: Array, *, mesh: Mesh | None = None
    ) -> tuple[Losses, Detections]:
        values, outputs = self._losses(images, targets, train=False, mesh=mesh)
        return values, self.detect(outputs, images, mesh=mesh)

    def _losses(
        self, images: Images, targets: Targets, *, train: bool, mesh: Mesh | None
    ) -> tuple[Losses, DenseOutputs]:
        outputs = self.predict(self.features(images, train=train), images, train=train)
        config = self.config
        assign = partial(
            assign_targets,
            fg_iou_thresh=config.fg_iou_thresh,
            bg_iou_thresh=config.bg_iou_thresh,
            ignore_thresh=config.ignore_thresh,
        )
        anchors, valid, deltas = (
            jnp.concatenate(levels, axis=1) for levels in (outputs.anchors, outputs.valid, outputs.deltas)
        )
        with jax.named_scope("assign"):
            assigned: AnchorTargets = over_images(jax.vmap(assign), mesh)(anchors, valid, targets)
        present = jnp.all(images.sizes > 0, axis=1)
        values = {
            "classification": classification_loss(outputs.logits, assigned, present),
            "bbox_regression": box_regression_loss(deltas, anchors, assigned, present, config.box_loss),
        }
        return values, outputs

    def stages(self, images: Images) -> list[Stage]:
        found, features = self.shared_stages(images)
        outputs = self.predict(features, images)
        detections = self.detect(outputs, images)
        config = self.config
        maps = {level: features[level] for level in self.strides}
        names = [f"{level} logits" for level in maps] + [f"{level} deltas" for level in maps]
        convolutions = len(self.head.classification.tower)
        detail = (
            f"anchors per location: {self._anchors_per_location()}; "
            f"shared 3x3 convolutions: {convolutions} for classes, {convolutions} for boxes"
        )
        selected = (
            f"the best {config.topk_candidates} (anchor, class) pairs per level; scores above {config.score_thresh}; "
            f"NMS at {config.nms_thresh} within each class; the best {config.detections_per_img}"
        )
        return [
            *found,
            Stage((*outputs.logits, *outputs.deltas), "Head", detail, tuple(names), module="head"),
            anchor_stage(config.anchor_generator, outputs.anchors, maps, images.pixels.shape[1:3]),
            Stage(
                (detections.boxes, detections.scores, detections.labels),
                "Post-processing",
                selected,
                ("boxes", "scores", "labels"),
            ),
        ]

    def predicted_classes(self) -> int | None:
        output = getattr(getattr(self.head, "classification", None), "output", None)  # a custom head may lack it
        return None if output is None else output.kernel.shape[-1] // self._anchors_per_location()

    def _anchors_per_location(self) -> int:
        return self.config.anchor_generator.num_anchors_per_location()[0]

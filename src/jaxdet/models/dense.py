"""The parent class of dense detectors.

Axes: B images, N anchors of an image (all levels), G ground-truth boxes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.sharding import Mesh

from jaxdet.backbones import Backbone
from jaxdet.base import Losses
from jaxdet.heads.dense_head import DenseOutputs
from jaxdet.heads.target_assignment import AnchorTargets
from jaxdet.models.config import FPNConfig
from jaxdet.models.dense_config import DenseDetectorConfig
from jaxdet.models.detector import Detector, Features, Stage, anchor_stage, check_anchors
from jaxdet.nn import Numerics
from jaxdet.parallel import over_images
from jaxdet.types import Detections, Images, Targets

PRIOR = 0.01  # initial score of every class (Lin et al. 2017, section 4.1)
PRIOR_LOGIT = -math.log((1 - PRIOR) / PRIOR)


class DenseDetector(Detector):
    """A detector that predicts at every location of the pyramid: ``features -> predict -> detect``.

    Attributes:
        head: from (maps, extents, train) to logits, deltas, and the further fields of ``outputs``, each per level. Its
            `DenseHead` for the classes is called ``classification``.
        head_class: the class of the head, built with (in_channels, num_anchors, num_classes, norm, numerics, rngs).
        outputs: the class of the predictions.
        postprocess: from (outputs, sizes) and the options of post-processing to detections.
    """

    config: DenseDetectorConfig
    head: Any
    head_class: ClassVar[Callable[..., nnx.Module]]
    outputs: ClassVar[type[DenseOutputs]] = DenseOutputs
    postprocess: ClassVar[Callable[..., Detections]]

    def __init__(
        self, config: DenseDetectorConfig, backbone: Backbone, *, numerics: Numerics = Numerics(), rngs: nnx.Rngs
    ):
        super().__init__(config, backbone, numerics=numerics, rngs=rngs)
        check_anchors(config.anchor_generator, config.fpn, "head")
        self.head = type(self).head_class(
            config.fpn.out_channels,
            self.anchors_per_location,
            config.num_classes,
            norm=config.head_norm,
            numerics=numerics,
            rngs=rngs,
        )

    @property
    def anchors_per_location(self) -> int:
        return self.config.anchor_generator.num_anchors_per_location()[0]

    @jax.named_scope("predict")
    def predict(self, features: Features, images: Images, *, train: bool = False) -> Any:
        """The predictions and anchors of every level (`DenseOutputs`). Images of size 0 have no valid anchors."""
        maps = {level: features[level] for level in self.strides}  # jit sorts dicts by name
        extents = self.map_extents(images)
        logits, deltas, *others = self.head(maps, extents, train=train)
        anchors, valid = self.place_anchors(self.config.anchor_generator, maps, extents, images)
        return self.outputs(logits, deltas, anchors, valid, *others)

    def assigner(self, outputs: Any) -> Callable[[Array, Array, Targets], AnchorTargets]:
        """Target assignment for the anchors ``[N, 4]`` of an image, whether they are valid ``[N]``, and its targets."""
        raise NotImplementedError

    def loss_terms(self, outputs: Any, anchors: Array, assigned: AnchorTargets, present: Array) -> Losses:
        """The losses of a batch.

        Args:
            anchors: ``[B, N, 4]`` xyxy.
            assigned: the targets of the anchors.
            present: ``[B]`` bool, whether each slot of the batch contains an image.
        """
        raise NotImplementedError

    @jax.named_scope("detect")
    def detect(self, outputs: DenseOutputs, images: Images, *, mesh: Mesh | None = None) -> Detections:
        """The best predictions of every level, NMS within each class, and the best boxes, clipped to each image."""
        config = self.config
        select = partial(
            type(self).postprocess,
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
        """The losses of a batch, named as in torchvision. ``keys`` are unused."""
        return self._losses(images, targets, train=train, mesh=mesh)[0]

    def losses_and_detections(
        self, images: Images, targets: Targets, keys: Array, *, mesh: Mesh | None = None
    ) -> tuple[Losses, Detections]:
        values, outputs = self._losses(images, targets, train=False, mesh=mesh)
        return values, self.detect(outputs, images, mesh=mesh)

    def _losses(self, images: Images, targets: Targets, *, train: bool, mesh: Mesh | None) -> tuple[Losses, Any]:
        outputs = self.predict(self.features(images, train=train), images, train=train)
        anchors, valid = (jnp.concatenate(levels, axis=1) for levels in (outputs.anchors, outputs.valid))
        with jax.named_scope("assign"):
            assigned: AnchorTargets = over_images(jax.vmap(self.assigner(outputs)), mesh)(anchors, valid, targets)
        present = jnp.all(images.sizes > 0, axis=1)
        return self.loss_terms(outputs, anchors, assigned, present), outputs

    def stages(self, images: Images) -> list[Stage]:
        found, features = self.shared_stages(images)
        outputs = self.predict(features, images)
        detections = self.detect(outputs, images)
        config = self.config
        maps = {level: features[level] for level in self.strides}
        predictions = self.predictions(outputs)
        names = tuple(f"{level} {kind}" for kind in predictions for level in maps)
        convolutions = len(self.head.classification.tower)
        detail = (
            f"anchors per location: {self.anchors_per_location}; "
            f"shared 3x3 convolutions: {convolutions} for classes, {convolutions} for boxes"
        )
        selected = (
            f"the best {config.topk_candidates} (anchor, class) pairs per level; scores above {config.score_thresh}; "
            f"NMS at {config.nms_thresh} within each class; the best {config.detections_per_img}"
        )
        arrays = tuple(array for levels in predictions.values() for array in levels)
        return [
            *found,
            Stage(arrays, "Head", detail, names, module="head"),
            anchor_stage(config.anchor_generator, outputs.anchors, maps, images.pixels.shape[1:3]),
            Stage(
                (detections.boxes, detections.scores, detections.labels),
                "Post-processing",
                selected,
                ("boxes", "scores", "labels"),
            ),
        ]

    def predictions(self, outputs: Any) -> dict[str, tuple[Array, ...]]:
        """The outputs of the head by name, one array per level, for `stages`."""
        return {"logits": outputs.logits, "deltas": outputs.deltas}

    def predicted_classes(self) -> int | None:
        output = getattr(getattr(self.head, "classification", None), "output", None)  # a custom head may lack it
        return None if output is None else output.kernel.shape[-1] // self.anchors_per_location


def level_strides(backbone: Backbone, fpn: FPNConfig) -> tuple[int, ...]:
    """The nominal strides of the pyramid's levels: those of the backbone's maps, doubled for each extra level."""
    strides = [backbone.strides[level] for level in fpn.levels]
    extra = len(fpn.all_levels) - len(strides)
    return (*strides, *(strides[-1] * 2 ** (number + 1) for number in range(extra)))

"""The Faster R-CNN model (Ren et al. 2015) with a feature pyramid, equivalent to torchvision's.

Axes: B images, L levels, N anchors of a level, R proposals, P cells per side of a pooled region, C channels,
K classes, D detections.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.sharding import Mesh

from jaxdet.backbones import Backbone
from jaxdet.base import Losses
from jaxdet.heads import (
    FastRCNNConvFCHead,
    FastRCNNPredictor,
    RoIOutputs,
    RPNHead,
    RPNOutputs,
    TwoMLPHead,
    pool_proposals,
    postprocess,
    select_proposals,
)
from jaxdet.models.detector import Detector, Features, Stage, check_anchors
from jaxdet.models.faster_rcnn.config import FasterRCNNConfig
from jaxdet.models.faster_rcnn.losses import box_losses, rpn_losses
from jaxdet.models.faster_rcnn.stages import box_stages, rpn_stages
from jaxdet.models.faster_rcnn.targets import sample_anchors, sample_proposals
from jaxdet.nn import Numerics
from jaxdet.parallel import over_images
from jaxdet.types import Detections, Images, Proposals, Targets


class FasterRCNN(Detector):
    """Faster R-CNN. ``detector(images)`` runs ``features -> rpn -> propose -> classify -> detect``."""

    config: FasterRCNNConfig

    def __init__(
        self, config: FasterRCNNConfig, backbone: Backbone, *, numerics: Numerics = Numerics(), rngs: nnx.Rngs
    ):
        super().__init__(config, backbone, numerics=numerics, rngs=rngs)
        _check(config)
        self._make_necks(rngs)
        width, box = config.fpn.out_channels, config.box
        anchors = config.rpn.anchor_generator.num_anchors_per_location()
        self.rpn_head = RPNHead(width, anchors[0], conv_depth=config.rpn.conv_depth, numerics=numerics, rngs=rngs)
        size = box.representation_size
        self.box_head: TwoMLPHead | FastRCNNConvFCHead
        if box.conv_layers:
            self.box_head = FastRCNNConvFCHead(
                width, box.conv_layers, size, output_size=box.output_size, norm=box.norm, numerics=numerics, rngs=rngs
            )
        else:
            self.box_head = TwoMLPHead(width * box.output_size**2, size, numerics=numerics, rngs=rngs)
        self.box_predictor = FastRCNNPredictor(size, config.num_classes, numerics=numerics, rngs=rngs)

    def _make_necks(self, rngs: nnx.Rngs) -> None:
        """Hook for subclasses with further modules between the pyramid and the heads."""

    def rpn_maps(self, features: Features, images: Images) -> tuple[Features, dict[str, Array | None]]:
        """The RPN's feature maps and their extents (`map_extents`)."""
        return {level: features[level] for level in self.strides}, self.map_extents(images)  # jit sorts dicts by name

    def pooled_maps(self, features: Features, images: Images) -> tuple[Features, dict[str, Array | None]]:
        """The feature maps that proposals are pooled from, and their extents (`map_extents`)."""
        extents, levels = self.map_extents(images), self.pool_levels
        return {level: features[level] for level in levels}, {level: extents[level] for level in levels}

    @property
    def pool_levels(self) -> tuple[str, ...]:
        """The pyramid levels that proposals are pooled from."""
        return self.config.fpn.levels if self.config.box.pool_levels is None else self.config.box.pool_levels

    def pool_strides(self) -> tuple[int, ...]:
        """The strides of the feature maps that proposals are pooled from."""
        return tuple(self.strides[level] for level in self.pool_levels)

    @jax.named_scope("rpn")
    def rpn(self, features: Features, images: Images) -> RPNOutputs:
        """Objectness, box deltas and anchors of every level. Images of size 0 have no valid anchors."""
        return self._rpn_on(*self.rpn_maps(features, images), images)

    def _rpn_on(self, maps: Features, extents: dict[str, Array | None], images: Images) -> RPNOutputs:
        logits, deltas = self.rpn_head(maps, extents)
        anchors, valid = self.place_anchors(self.config.rpn.anchor_generator, maps, extents, images)
        return RPNOutputs(logits, deltas, anchors, valid)

    @jax.named_scope("propose")
    def propose(self, rpn: RPNOutputs, images: Images, *, train: bool = False, mesh: Mesh | None = None) -> Proposals:
        """The proposals of every image. ``train`` selects the ``top_n_train`` or ``top_n_test`` options."""
        config = self.config.rpn
        return over_images(lambda rpn, sizes: select_proposals(rpn, sizes, config, train=train), mesh)(
            rpn, images.sizes
        )

    @jax.named_scope("classify")
    def classify(
        self, features: Features, proposals: Proposals, images: Images, *, train: bool = False,
        mesh: Mesh | None = None,
    ) -> RoIOutputs:  # fmt: skip
        """Class logits and box deltas for every proposal."""
        return self._classified(self.pool(features, proposals, images, mesh=mesh), proposals, train=train)[1]

    def _classified(self, pooled: Array, proposals: Proposals, *, train: bool = False) -> tuple[Array, RoIOutputs]:
        """The features of the box head ``[B, R, F]`` and the predictions from them."""
        batch, count = pooled.shape[:2]
        hidden = self.box_head(pooled.reshape(-1, *pooled.shape[2:]), proposals.valid.reshape(-1), train=train)
        logits, deltas = self.box_predictor(hidden)
        outputs = RoIOutputs(logits.reshape(batch, count, -1), deltas.reshape(batch, count, -1, 4))
        return hidden.reshape(batch, count, -1), outputs

    def pool(self, features: Features, proposals: Proposals, images: Images, *, mesh: Mesh | None = None) -> Array:
        """RoIAlign of every proposal on the level for its size, ``[B, R, P, P, C]``."""
        box = self.config.box
        features, by_level = self.pooled_maps(features, images)
        strides = self.pool_strides()
        extents = [extent for extent in by_level.values() if extent is not None] or None

        def pool(maps: list[Array], boxes: Array, valid: Array, extents: list[Array] | None) -> Array:
            return pool_proposals(
                maps, boxes, valid, strides, output_size=box.output_size, sampling_ratio=box.sampling_ratio,
                extents=extents,
            )  # fmt: skip

        return over_images(pool, mesh)(list(features.values()), proposals.boxes, proposals.valid, extents)

    @jax.named_scope("detect")
    def detect(
        self, outputs: RoIOutputs, proposals: Proposals, images: Images, *, mesh: Mesh | None = None
    ) -> Detections:
        """Scores, per-class NMS and the best boxes, clipped to the size of each image."""
        return over_images(self.postprocess, mesh)(outputs, proposals, images.sizes)

    def postprocess(self, outputs: RoIOutputs, proposals: Proposals, sizes: Array) -> Detections:
        """See `jaxdet.heads.postprocess`."""
        return postprocess(outputs, proposals, sizes, self.config.box)

    def __call__(self, images: Images, *, mesh: Mesh | None = None) -> Detections:
        features = self.features(images)
        proposals = self.propose(self.rpn(features, images), images, mesh=mesh)
        outputs = self.classify(features, proposals, images, mesh=mesh)
        return self.detect(outputs, proposals, images, mesh=mesh)

    def losses(
        self, images: Images, targets: Targets, keys: Array, *, train: bool = True, mesh: Mesh | None = None
    ) -> Losses:
        """``loss_classifier``, ``loss_box_reg``, ``loss_objectness`` and ``loss_rpn_box_reg``, as torchvision's.

        Args:
            keys: ``[B]`` typed random keys, one per image, to sample anchors and proposals.
        """
        return self._losses(images, targets, keys, train=train, mesh=mesh)[0]

    def losses_and_detections(
        self, images: Images, targets: Targets, keys: Array, *, mesh: Mesh | None = None
    ) -> tuple[Losses, Detections]:
        values, features, rpn = self._losses(images, targets, keys, train=False, mesh=mesh)
        proposals = self.propose(rpn, images, mesh=mesh)
        outputs = self.classify(features, proposals, images, mesh=mesh)
        return values, self.detect(outputs, proposals, images, mesh=mesh)

    def _losses(
        self, images: Images, targets: Targets, keys: Array, *, train: bool, mesh: Mesh | None
    ) -> tuple[Losses, Features, RPNOutputs]:
        config = self.config
        features = self.features(images, train=train)
        rpn = self.rpn(features, images)
        proposals = self.propose(rpn, images, train=True, mesh=mesh)

        @jax.named_scope("sample")
        def sample(rpn: RPNOutputs, proposals: Proposals, targets: Targets, keys: Array):
            keys = jax.vmap(jax.random.split)(keys)  # [B, 2]
            anchors, valid = (jnp.concatenate(x, axis=1) for x in (rpn.anchors, rpn.valid))
            anchor_targets = jax.vmap(partial(sample_anchors, config=config.rpn))(keys[:, 0], anchors, valid, targets)
            proposal_targets = jax.vmap(partial(sample_proposals, config=config.box))(
                keys[:, 1], proposals.boxes, proposals.valid, targets
            )
            return anchor_targets, proposal_targets

        anchor_targets, sampled = over_images(sample, mesh)(rpn, proposals, targets, keys)
        chosen = Proposals(sampled.boxes, jnp.zeros_like(sampled.boxes[..., 0]), sampled.valid)
        outputs = self.classify(features, chosen, images, train=train, mesh=mesh)
        values = box_losses(outputs, sampled, config.box.smooth_l1_beta, config.box.ohem)
        values |= rpn_losses(rpn, anchor_targets, config.rpn.smooth_l1_beta)
        return values, features, rpn

    def stages(self, images: Images) -> list[Stage]:
        found, features = self.shared_stages(images)
        maps, extents = self.rpn_maps(features, images)
        rpn = self._rpn_on(maps, extents, images)
        proposals = self.propose(rpn, images)
        pooled = self.pool(features, proposals, images)
        hidden, outputs = self._classified(pooled, proposals)
        detections = self.detect(outputs, proposals, images)
        found += rpn_stages(self, maps, rpn, images)
        return found + box_stages(self, proposals, pooled, hidden, outputs, detections)

    def suppression(self) -> str:
        """A description of the suppression of overlapping detections, for summaries."""
        return f"NMS at {self.config.box.nms_thresh}"

    def predicted_classes(self) -> int | None:
        kernel = getattr(
            getattr(self.box_predictor, "cls_score", None), "kernel", None
        )  # a custom predictor may lack it
        return None if kernel is None else kernel.shape[-1]


def _check(config: FasterRCNNConfig) -> None:
    levels, pooled = config.fpn.levels, config.box.pool_levels
    if pooled is not None and (not pooled or not set(pooled) <= set(levels)):
        raise ValueError(f"box_pool_levels must be some of the pyramid's levels {levels}, not {pooled}")
    check_anchors(config.rpn.anchor_generator, config.fpn, "RPN head")

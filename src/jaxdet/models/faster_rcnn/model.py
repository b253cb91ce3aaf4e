"""Faster R-CNN (Ren et al. 2015) with a feature pyramid, as torchvision computes it: the algorithm on one page.

Axes: B images, L levels, N anchors of a level, R proposals, K classes, D detections.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.sharding import Mesh

from jaxdet.backbones import Backbone
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
from jaxdet.models.faster_rcnn.config import FasterRCNNConfig, FPNConfig
from jaxdet.necks import FPN, POOL, RetinaFaceFPN, make_context, map_extents
from jaxdet.nn import SIZE_DIVISIBLE, NormConfig, Numerics, Upscale, image_extents, inside
from jaxdet.parallel import over_images
from jaxdet.types import Detections, Images, Proposals

Features = dict[str, Array]  # by the names of the pyramid's levels


class FasterRCNN(nnx.Module):
    """``detector(images)`` gives `Detections`; its stages are methods that inference, losses and tests all walk.

    ``features -> rpn -> propose -> classify -> detect``. Pure functions of their arguments but for batch statistics
    with ``train=True``. ``mesh`` names the devices over which a batch is split, so that what follows the RPN stays on
    the device of its image.
    """

    origin: tuple[str, ...] = ()  # whose names its weights came under, for the way back to PyTorch

    def __init__(
        self, config: FasterRCNNConfig, backbone: Backbone, *, numerics: Numerics = Numerics(), rngs: nnx.Rngs
    ):
        _check(config, backbone)
        self.config, self.numerics = config, numerics
        self.backbone = backbone
        channels = tuple(backbone.channels[level] for level in config.fpn.levels)
        width = config.fpn.out_channels
        self.fpn = _fpn(config.fpn, channels, numerics, rngs)
        levels = len(config.fpn.levels)
        self.context = nnx.data(make_context(config.context, width, levels, numerics=numerics, rngs=rngs))
        upscale = config.upscale_rpn
        self.rpn_upscale = nnx.data(Upscale(width, numerics=numerics, rngs=rngs) if upscale else None)
        self.box_upscale = nnx.data(Upscale(width, numerics=numerics, rngs=rngs) if upscale else None)
        anchors = config.rpn.anchor_generator.num_anchors_per_location()
        self.rpn_head = RPNHead(width, anchors[0], conv_depth=config.rpn.conv_depth, numerics=numerics, rngs=rngs)
        box = config.box
        size = box.representation_size
        self.box_head: TwoMLPHead | FastRCNNConvFCHead
        if box.conv_layers:
            self.box_head = FastRCNNConvFCHead(
                width, box.conv_layers, size, output_size=box.output_size, norm=box.norm, numerics=numerics, rngs=rngs
            )
        else:
            self.box_head = TwoMLPHead(width * box.output_size**2, size, numerics=numerics, rngs=rngs)
        self.box_predictor = FastRCNNPredictor(size, config.num_classes, numerics=numerics, rngs=rngs)

    @property
    def strides(self) -> dict[str, int]:
        """Stride in input pixels of every level of the pyramid."""
        return self.fpn.strides({level: self.backbone.strides[level] for level in self.config.fpn.levels})

    @property
    def scale(self) -> int:
        """How many cells of the maps that RPN and RoI pooling see lie on one of the pyramid's, by height or width."""
        return 2 if self.config.upscale_rpn else 1

    @jax.named_scope("features")
    def features(self, images: Images, *, train: bool = False) -> Features:
        """Pyramid maps ``[B, H_l, W_l, C]``, highest resolution first, as the context modules (if any) leave them.

        Whatever lies beyond an image is ignored.
        """
        height, width = images.pixels.shape[1:3]
        if self.config.canvas == "image" and (height % SIZE_DIVISIBLE or width % SIZE_DIVISIBLE):
            raise ValueError(
                f"the canvas is {height} high and {width} wide; both sides have to be multiples of {SIZE_DIVISIBLE}: "
                "jaxdet.data.canvases gives such ones"
            )
        own = inside(images.sizes, height, width)
        pixels = jnp.where(own, images.pixels, 0).astype(self.numerics.dtype)
        maps = self.backbone.features(pixels, self._extents(images), train=train)
        maps = {level: maps[level] for level in self.config.fpn.levels}
        extents = self._map_extents(images)
        features = self.fpn(maps, extents, train=train)
        if self.context is not None:
            for level, module in zip(self.config.fpn.levels, self.context, strict=True):
                features[level] = module(features[level], extents[level], train=train)
        return features

    @jax.named_scope("rpn")
    def rpn(self, features: Features, images: Images) -> RPNOutputs:
        """Objectness, box deltas and anchors of every level; an image of size 0 has no valid anchor."""
        features = {level: features[level] for level in self.strides}  # a jit boundary sorts dicts by name
        features, own = self._upscaled(self.rpn_upscale, features, images)
        logits, deltas = self.rpn_head(features, own)
        shapes = [(x.shape[1], x.shape[2]) for x in features.values()]
        extents = self._extents(images)
        grids = [grid for grid in own.values() if grid is not None]
        if extents is None:  # canvas="fast": every image is as large as the canvas
            batch, *canvas = images.pixels.shape[:3]
            extents = jnp.tile(jnp.asarray(canvas)[None], (batch, 1))
            grids = [jnp.tile(jnp.asarray(shape)[None], (batch, 1)) for shape in shapes]
        anchors, valid = self.config.rpn.anchor_generator(shapes, extents, grids)
        there = jnp.all(images.sizes > 0, axis=1, keepdims=True)  # [B, 1]; a slot without an image has no anchor
        return RPNOutputs(logits, deltas, anchors, tuple(level & there for level in valid))

    @jax.named_scope("propose")
    def propose(self, rpn: RPNOutputs, images: Images, *, train: bool = False, mesh: Mesh | None = None) -> Proposals:
        """The best boxes of every image; ``train`` chooses between the two sets of ``top_n`` options."""
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
        pooled = self.pool(features, proposals, images, mesh=mesh)
        batch, count = pooled.shape[:2]
        hidden = self.box_head(pooled.reshape(-1, *pooled.shape[2:]), proposals.valid.reshape(-1), train=train)
        logits, deltas = self.box_predictor(hidden)
        return RoIOutputs(logits.reshape(batch, count, -1), deltas.reshape(batch, count, -1, 4))

    def pool(self, features: Features, proposals: Proposals, images: Images, *, mesh: Mesh | None = None) -> Array:
        """RoIAlign of every proposal from the level that fits its size, ``[B, R, P, P, C]``."""
        box = self.config.box
        levels = self.config.fpn.levels if box.pool_levels is None else box.pool_levels
        features, own = self._upscaled(self.box_upscale, {level: features[level] for level in levels}, images)
        maps = list(features.values())
        strides = [self.strides[level] // self.scale for level in levels]
        extents = [extent for extent in own.values() if extent is not None] or None

        def pool(maps: list[Array], boxes: Array, valid: Array, extents: list[Array] | None) -> Array:
            return pool_proposals(
                maps, boxes, valid, strides, output_size=box.output_size, sampling_ratio=box.sampling_ratio,
                extents=extents,
            )  # fmt: skip

        return over_images(pool, mesh)(maps, proposals.boxes, proposals.valid, extents)

    @jax.named_scope("detect")
    def detect(
        self, outputs: RoIOutputs, proposals: Proposals, images: Images, *, mesh: Mesh | None = None
    ) -> Detections:
        """Scores, per-class NMS and the best boxes, clipped to each image's true size."""
        config = self.config.box

        def detect(outputs: RoIOutputs, proposals: Proposals, sizes: Array) -> Detections:
            return postprocess(outputs, proposals, sizes, config)

        return over_images(detect, mesh)(outputs, proposals, images.sizes)

    def __call__(self, images: Images, *, mesh: Mesh | None = None) -> Detections:
        """Images on a canvas whose sides are multiples of 32 to detections in the canvas's pixels."""
        features = self.features(images)
        proposals = self.propose(self.rpn(features, images), images, mesh=mesh)
        outputs = self.classify(features, proposals, images, mesh=mesh)
        return self.detect(outputs, proposals, images, mesh=mesh)

    def _extents(self, images: Images) -> Array | None:
        return image_extents(images.sizes) if self.config.canvas == "image" else None

    def _map_extents(self, images: Images) -> dict[str, Array | None]:
        extents = map_extents(self._extents(images), self.strides)
        overhang = getattr(self.backbone, "overhang", 0)
        return {name: None if extent is None else extent + overhang for name, extent in extents.items()}

    def _upscaled(
        self, upscale: Upscale | None, features: Features, images: Images
    ) -> tuple[Features, dict[str, Array | None]]:
        """Maps as the heads see them, and their extents."""
        every = self._map_extents(images)
        own = {level: every[level] for level in features}
        if upscale is None:
            return features, own
        features = {level: upscale(x, own[level]) for level, x in features.items()}
        return features, {level: None if extent is None else 2 * extent for level, extent in own.items()}


def _fpn(config: FPNConfig, channels: tuple[int, ...], numerics: Numerics, rngs: nnx.Rngs) -> FPN | RetinaFaceFPN:
    if config.kind == "torchvision":
        return FPN(channels, config.out_channels, norm=config.norm, pool=config.pool, numerics=numerics, rngs=rngs)
    norm = NormConfig() if config.norm is None else config.norm
    low, middle, high = channels
    return RetinaFaceFPN((low, middle, high), config.out_channels, norm=norm, numerics=numerics, rngs=rngs)


def _check(config: FasterRCNNConfig, backbone: Backbone) -> None:
    levels = config.fpn.levels
    missing = [level for level in levels if level not in backbone.channels]
    if missing:
        raise ValueError(f"the backbone has no maps {missing}; it has {list(backbone.channels)}")
    pooled = config.box.pool_levels
    if pooled is not None and (not pooled or not set(pooled) <= set(levels)):
        raise ValueError(f"box_pool_levels has some of the pyramid's levels {levels}, unlike {pooled}")
    if config.context.kind is not None and config.fpn.pool:
        raise ValueError("context modules stand on the levels of the pyramid alone: give fpn_pool=False with them")
    if not backbone.masks_padding and config.canvas == "image":
        raise ValueError(
            f"{type(backbone).__name__} does not mask padding, so results would depend on the canvas: "
            'ask for that with canvas="fast", or give the backbone masks_padding=True and use its extents'
        )
    generator = config.rpn.anchor_generator
    maps = len(levels) + config.fpn.pool
    if len(generator.sizes) != maps:
        raise ValueError(
            f"anchor sizes are given for {len(generator.sizes)} levels, but there are {maps} feature maps "
            f"({', '.join(levels)}{' and ' + POOL if config.fpn.pool else ''}): give one tuple of sizes a map"
        )
    counts = generator.num_anchors_per_location()
    if len(set(counts)) != 1:
        raise ValueError(f"the RPN head is shared by all levels, so each needs as many anchors a location: {counts}")

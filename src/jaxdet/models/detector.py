"""What all detectors share: masking, backbone and pyramid, and the stages that summaries and comparisons walk.

Axes: B images, L levels, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.sharding import Mesh

from jaxdet.backbones import Backbone
from jaxdet.base import Losses, Model
from jaxdet.heads import AnchorGenerator
from jaxdet.models.config import DetectorConfig, FPNConfig
from jaxdet.necks import FPN, LastLevelP6P7, RetinaFaceFPN, map_extents
from jaxdet.nn import SIZE_DIVISIBLE, NormConfig, Numerics, image_extents, inside
from jaxdet.types import Detections, Images, Targets

Features = dict[str, Array]  # by the names of the maps


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Stage:
    """A part of a detector and the arrays that it gives.

    arrays: in order; names: one an array; notes: empty, or one an array.
    module: the attribute of the detector that holds the stage's parameters; empty: it has none.
    maps: whether the arrays end in height, width and channels.
    """

    arrays: tuple[Array, ...]
    name: str = field(metadata={"static": True})
    detail: str = field(metadata={"static": True})
    names: tuple[str, ...] = field(metadata={"static": True})
    notes: tuple[str, ...] = field(default=(), metadata={"static": True})
    module: str = field(default="", metadata={"static": True})
    maps: bool = field(default=False, metadata={"static": True})


class Detector(Model):
    """The parent of every detector: ``detector(images)`` gives `Detections`.

    Its stages are methods that inference, losses and tests all walk. They are pure functions of their arguments but for
    batch statistics with ``train=True``. ``mesh`` names the devices over which a batch is split, so that what follows
    the heads stays on the device of its image.

    Attributes:
        backbone: any `jaxdet.backbones.Backbone`.
        fpn: the pyramid.
    """

    config: DetectorConfig

    def __init__(self, config: DetectorConfig, backbone: Backbone, *, numerics: Numerics, rngs: nnx.Rngs):
        check_backbone(config, backbone)
        self.config, self.numerics = config, numerics
        self.backbone = backbone
        self.fpn = _make_fpn(config.fpn, tuple(backbone.channels[level] for level in config.fpn.levels), numerics, rngs)

    @property
    def strides(self) -> dict[str, int]:
        """Stride in input pixels of every level of the pyramid."""
        return self.fpn.strides({level: self.backbone.strides[level] for level in self.config.fpn.levels})

    def anchor_strides(self) -> tuple[int, ...]:
        """The strides of the maps that anchors stand on, highest resolution first."""
        return tuple(self.strides.values())

    def extract(self, images: Images, *, train: bool = False) -> Features:
        """The backbone's maps ``{name: [B, H_l, W_l, C_l]}``; what lies beyond an image is ignored."""
        height, width = images.pixels.shape[1:3]
        if self.config.canvas == "image" and (height % SIZE_DIVISIBLE or width % SIZE_DIVISIBLE):
            raise ValueError(
                f"the canvas is {height} high and {width} wide; both sides have to be multiples of {SIZE_DIVISIBLE}: "
                "jaxdet.data.canvases gives such ones"
            )
        own = inside(images.sizes, height, width)
        pixels = jnp.where(own, images.pixels, 0).astype(self.numerics.dtype)
        return self.backbone.features(pixels, self.extents(images), train=train)

    def pyramid(self, maps: Features, images: Images, *, train: bool = False) -> Features:
        """The pyramid's maps ``{name: [B, H_l, W_l, C]}`` of the backbone's, highest resolution first."""
        maps = {level: maps[level] for level in self.config.fpn.levels}
        return self.fpn(maps, self.map_extents(images), train=train)

    @jax.named_scope("features")
    def features(self, images: Images, *, train: bool = False) -> Features:
        """Pyramid maps ``[B, H_l, W_l, C]``, highest resolution first. Whatever lies beyond an image is ignored."""
        return self.pyramid(self.extract(images, train=train), images, train=train)

    def __call__(self, images: Images, *, mesh: Mesh | None = None) -> Detections:
        """Images on a canvas whose sides are multiples of 32 to detections in the canvas's pixels."""
        raise NotImplementedError

    def losses_and_detections(
        self, images: Images, targets: Targets, keys: Array, *, mesh: Mesh | None = None
    ) -> tuple[Losses, Detections]:
        """Validation losses and detections from one pass through the backbone; no statistic moves."""
        raise NotImplementedError

    def stages(self, images: Images) -> list[Stage]:
        """The detector part by part, from the backbone to post-processing, with all that lies between."""
        raise NotImplementedError

    def shared_stages(self, images: Images) -> tuple[list[Stage], Features]:
        """The stages of backbone and pyramid, and the pyramid's maps."""
        maps = self.extract(images)
        maps = {name: maps[name] for name in self.backbone.channels}
        features = self.pyramid(maps, images)
        strides = self.backbone.strides
        levels = ", ".join(self.config.fpn.levels)
        found = [
            map_stage("Backbone", type(self.backbone).__name__, maps, strides, "backbone"),
            map_stage("FPN", f"on {levels}", features, self.strides, "fpn"),
        ]
        return found, features

    def extents(self, images: Images) -> Array | None:
        """``[B, 2]`` each image's size rounded up to a multiple of 32; None with ``canvas="fast"``."""
        return image_extents(images.sizes) if self.config.canvas == "image" else None

    def map_extents(self, images: Images) -> dict[str, Array | None]:
        """How much of each level's map is an image's own, ``[B, 2]``; None with ``canvas="fast"``."""
        extents = map_extents(self.extents(images), self.strides)
        overhang = getattr(self.backbone, "overhang", 0)
        return {name: None if extent is None else extent + overhang for name, extent in extents.items()}

    def place_anchors(
        self, generator: AnchorGenerator, features: Features, own: dict[str, Array | None], images: Images
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Anchors ``[B, N, 4]`` a level and which are the image's own ``[B, N]``; one of size 0 has none.

        Args:
            features: the maps that the anchors stand on; own: their extents.
        """
        shapes = [(x.shape[1], x.shape[2]) for x in features.values()]
        extents = self.extents(images)
        grids = [grid for grid in own.values() if grid is not None]
        if extents is None:  # canvas="fast": every image is as large as the canvas
            batch, *canvas = images.pixels.shape[:3]
            extents = jnp.tile(jnp.asarray(canvas)[None], (batch, 1))
            grids = [jnp.tile(jnp.asarray(shape)[None], (batch, 1)) for shape in shapes]
        anchors, valid = generator(shapes, extents, grids)
        there = jnp.all(images.sizes > 0, axis=1, keepdims=True)  # [B, 1]; a slot without an image has no anchor
        return anchors, tuple(level & there for level in valid)


def map_stage(name: str, detail: str, maps: Features, strides: dict[str, int], module: str) -> Stage:
    """A stage that gives named maps."""
    notes = tuple(f"stride {strides[level]}" for level in maps)
    return Stage(tuple(maps.values()), name, detail, tuple(maps), notes, module, maps=True)


def anchor_stage(
    generator: AnchorGenerator, anchors: Sequence[Array], features: Features, canvas: Sequence[int]
) -> Stage:
    """The stage of the anchors ``[B, N, 4]`` a level, on the maps of these features."""
    sizes: tuple = generator.sizes
    ratios: tuple = generator.aspect_ratios  # both a tuple a level by now
    notes = []
    for level, x in enumerate(features.values()):
        down, right = (side // cells for side, cells in zip(canvas, x.shape[1:3], strict=True))
        notes.append(f"every {down}x{right} px; sizes {words(sizes[level])}; ratios {words(ratios[level])}")
    count = sum(boxes.shape[1] for boxes in anchors)
    return Stage(tuple(anchors), "Anchors", f"{count:,} in all", tuple(features), tuple(notes))


def words(values: Sequence[object]) -> str:
    """Values side by side, for a stage's detail."""
    return ", ".join(str(value) for value in values)


def check_backbone(config: DetectorConfig, backbone: Backbone) -> None:
    """Refuses a backbone that a detector cannot stand on.

    Raises:
        ValueError: it lacks a map of the pyramid, or does not mask padding where the canvas asks for that.
    """
    missing = [level for level in config.fpn.levels if level not in backbone.channels]
    if missing:
        raise ValueError(f"the backbone has no maps {missing}; it has {list(backbone.channels)}")
    if not backbone.masks_padding and config.canvas == "image":
        raise ValueError(
            f"{type(backbone).__name__} does not mask padding, so results would depend on the canvas: "
            'ask for that with canvas="fast", or give the backbone masks_padding=True and use its extents'
        )


def check_anchors(generator: AnchorGenerator, fpn: FPNConfig, head: str) -> None:
    """Refuses anchors that do not fit the pyramid.

    Args:
        head: which head is shared by all levels, for the message.

    Raises:
        ValueError: sizes are for another number of levels, or levels differ in how many anchors a location has.
    """
    levels = fpn.all_levels
    if len(generator.sizes) != len(levels):
        named = f"{', '.join(levels[:-1])} and {levels[-1]}" if len(levels) > 1 else levels[0]
        raise ValueError(
            f"anchor sizes are given for {len(generator.sizes)} levels, but there are {len(levels)} feature maps "
            f"({named}): give one tuple of sizes a map"
        )
    counts = generator.num_anchors_per_location()
    if len(set(counts)) != 1:
        raise ValueError(f"the {head} is shared by all levels, so each needs as many anchors a location: {counts}")


def _make_fpn(config: FPNConfig, channels: tuple[int, ...], numerics: Numerics, rngs: nnx.Rngs) -> FPN | RetinaFaceFPN:
    width = config.out_channels
    if config.kind == "retinaface":
        norm = NormConfig() if config.norm is None else config.norm
        low, middle, high = channels
        return RetinaFaceFPN((low, middle, high), width, norm=norm, numerics=numerics, rngs=rngs)
    fpn = FPN(channels, width, norm=config.norm, pool=config.pool, numerics=numerics, rngs=rngs)
    if config.p6p7 is not None:
        inputs = width if config.p6p7 == "p5" else channels[-1]
        fpn.extra_blocks = nnx.data(LastLevelP6P7(inputs, width, numerics=numerics, rngs=rngs))
    return fpn

"""The parent class of detectors: masking of padding, backbone, feature pyramid and stages.

Axes: B images, N anchors of an image, L levels, C channels; H_l, W_l: height and width of a level's map.
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

Features = dict[str, Array]  # feature maps by name


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Stage:
    """A part of a detector and its outputs, for summaries and comparisons.

    arrays: the outputs; names: one per array; notes: one per array, or none.
    module: the attribute of the detector with the stage's parameters; empty: no parameters.
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
    """The parent of every detector: ``detector(images)`` returns `Detections`.

    Inference, losses and tests call the same methods. With ``train=True`` they update batch statistics; otherwise they
    are pure functions. ``mesh``: the devices over which a batch is split; each image's post-processing then stays on
    its device.

    Attributes:
        backbone: any `jaxdet.backbones.Backbone`.
        fpn: the feature pyramid.
    """

    config: DetectorConfig

    def __init__(self, config: DetectorConfig, backbone: Backbone, *, numerics: Numerics, rngs: nnx.Rngs):
        check_backbone(config, backbone)
        self.config, self.numerics = config, numerics
        self.backbone = backbone
        self.fpn = _make_fpn(config.fpn, tuple(backbone.channels[level] for level in config.fpn.levels), numerics, rngs)

    @property
    def strides(self) -> dict[str, int]:
        """The stride of every pyramid level, in input pixels."""
        return self.fpn.strides({level: self.backbone.strides[level] for level in self.config.fpn.levels})

    def anchor_strides(self) -> tuple[int, ...]:
        """The strides of the anchors' feature maps, highest resolution first."""
        return tuple(self.strides.values())

    def extract(self, images: Images, *, train: bool = False) -> Features:
        """The backbone's feature maps ``{name: [B, H_l, W_l, C_l]}``. Pixels of the padding are ignored."""
        height, width = images.pixels.shape[1:3]
        if self.config.canvas == "image" and (height % SIZE_DIVISIBLE or width % SIZE_DIVISIBLE):
            raise ValueError(
                f"the canvas is {height} high and {width} wide; both sides have to be multiples of {SIZE_DIVISIBLE}: "
                "jaxdet.data.canvases returns such canvases"
            )
        pixels = jnp.where(inside(images.sizes, height, width), images.pixels, 0).astype(self.numerics.dtype)
        return self.backbone.features(pixels, self.extents(images), train=train)

    def pyramid(self, maps: Features, images: Images, *, train: bool = False) -> Features:
        """The pyramid's feature maps ``{name: [B, H_l, W_l, C]}`` from the backbone's, highest resolution first."""
        maps = {level: maps[level] for level in self.config.fpn.levels}
        return self.fpn(maps, self.map_extents(images), train=train)

    @jax.named_scope("features")
    def features(self, images: Images, *, train: bool = False) -> Features:
        """The pyramid's feature maps ``{name: [B, H_l, W_l, C]}``, highest resolution first. Padding is ignored."""
        return self.pyramid(self.extract(images, train=train), images, train=train)

    def __call__(self, images: Images, *, mesh: Mesh | None = None) -> Detections:
        """Detects objects.

        Args:
            images: on a canvas with sides that are multiples of 32.

        Returns:
            Detections; boxes are xyxy in pixels of the canvas.
        """
        raise NotImplementedError

    def losses_and_detections(
        self, images: Images, targets: Targets, keys: Array, *, mesh: Mesh | None = None
    ) -> tuple[Losses, Detections]:
        """Validation losses and detections from one pass through the backbone. Running statistics are not updated."""
        raise NotImplementedError

    def stages(self, images: Images) -> list[Stage]:
        """The outputs of all parts of the detector, from the backbone to post-processing."""
        raise NotImplementedError

    def shared_stages(self, images: Images) -> tuple[list[Stage], Features]:
        """The stages of backbone and pyramid, and the pyramid's feature maps."""
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
        """``[B, 2]`` the size of each image, rounded up to a multiple of 32; None with ``canvas="fast"``."""
        return image_extents(images.sizes) if self.config.canvas == "image" else None

    def map_extents(self, images: Images) -> dict[str, Array | None]:
        """``{level: [B, 2]}`` the part of each feature map that is not padding, height and width from the top left.

        The values are None with ``canvas="fast"``.
        """
        extents = map_extents(self.extents(images), self.strides)
        overhang = getattr(self.backbone, "overhang", 0)
        return {name: None if extent is None else extent + overhang for name, extent in extents.items()}

    def place_anchors(
        self, generator: AnchorGenerator, features: Features, extents: dict[str, Array | None], images: Images
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Per level, the anchors ``[B, N, 4]`` and whether they are valid ``[B, N]``: those in padding are not.

        Args:
            features: the feature maps that the anchors are placed on.
            extents: of these maps; see `map_extents`.
        """
        shapes = [(x.shape[1], x.shape[2]) for x in features.values()]
        image_sizes = self.extents(images)
        grids = [grid for grid in extents.values() if grid is not None]
        if image_sizes is None:  # canvas="fast": every image is as large as the canvas
            batch, *canvas = images.pixels.shape[:3]
            image_sizes = jnp.tile(jnp.asarray(canvas)[None], (batch, 1))
            grids = [jnp.tile(jnp.asarray(shape)[None], (batch, 1)) for shape in shapes]
        anchors, valid = generator(shapes, image_sizes, grids)
        has_image = jnp.all(images.sizes > 0, axis=1, keepdims=True)  # [B, 1]; empty slots have no valid anchors
        return anchors, tuple(level & has_image for level in valid)


def map_stage(name: str, detail: str, maps: Features, strides: dict[str, int], module: str) -> Stage:
    """The stage of named feature maps."""
    notes = tuple(f"stride {strides[level]}" for level in maps)
    return Stage(tuple(maps.values()), name, detail, tuple(maps), notes, module, maps=True)


def anchor_stage(
    generator: AnchorGenerator, anchors: Sequence[Array], features: Features, canvas: Sequence[int]
) -> Stage:
    """The stage of the anchors ``[B, N, 4]`` of every level, which are placed on these feature maps."""
    sizes: tuple = generator.sizes
    ratios: tuple = generator.aspect_ratios  # the constructor made both a tuple per level
    notes = []
    for level, x in enumerate(features.values()):
        down, right = (side // cells for side, cells in zip(canvas, x.shape[1:3], strict=True))
        notes.append(f"every {down}x{right} px; sizes {words(sizes[level])}; ratios {words(ratios[level])}")
    count = sum(boxes.shape[1] for boxes in anchors)
    return Stage(tuple(anchors), "Anchors", f"{count:,} in total", tuple(features), tuple(notes))


def words(values: Sequence[object]) -> str:
    """Values separated by commas, for a stage's detail."""
    return ", ".join(str(value) for value in values)


def check_backbone(config: DetectorConfig, backbone: Backbone) -> None:
    """Refuses a backbone that does not fit a detector's configuration.

    Raises:
        ValueError: it lacks a level of the pyramid, or does not mask padding as ``canvas="image"`` requires.
    """
    missing = [level for level in config.fpn.levels if level not in backbone.channels]
    if missing:
        raise ValueError(f"the backbone has no feature maps {missing}; it has {list(backbone.channels)}")
    if not backbone.masks_padding and config.canvas == "image":
        raise ValueError(
            f"{type(backbone).__name__} does not mask padding, so results would depend on the canvas: accept that "
            'with canvas="fast", or mask with the extents in features() and set masks_padding=True'
        )


def check_anchors(generator: AnchorGenerator, fpn: FPNConfig, head: str) -> None:
    """Refuses anchors that do not fit the pyramid.

    Args:
        head: the head that all levels share, for the message.

    Raises:
        ValueError: another number of levels, or levels with different numbers of anchors per location.
    """
    levels = fpn.all_levels
    if len(generator.sizes) != len(levels):
        raise ValueError(
            f"anchor sizes are given for {len(generator.sizes)} levels, but there are {len(levels)} feature maps "
            f"({', '.join(levels)}): give one tuple of sizes per feature map"
        )
    counts = generator.num_anchors_per_location()
    if len(set(counts)) != 1:
        raise ValueError(
            f"the {head} is shared by all levels, so each needs the same number of anchors per location, not {counts}"
        )


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

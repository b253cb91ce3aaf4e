"""MobileNetV1 (Howard et al. 2017) in RetinaFace's variant: three stages, LeakyReLU, no biases."""

from __future__ import annotations

from dataclasses import dataclass

from flax import nnx
from jax import Array

from jaxdet.backbones.base import BackboneConfig, Classifier, ClassifierTransform
from jaxdet.nn import TORCH_DEFAULT, ConvNormAct, NormConfig, Numerics, strided

STEM_CHANNELS = 32
# (channels at width 1, stride) of each depthwise-separable block, by stage. A feature map is the output of a stage.
STAGES = (
    ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)),
    ((512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1)),
    ((1024, 2), (1024, 1)),
)


@dataclass(frozen=True)
class MobileNetV1Config(BackboneConfig):
    """Configuration of MobileNetV1.

    width: factor of all channel counts.
    stem: ``"3x3s2"`` (the paper and RetinaFace; strides 8, 16, 32), or ``"2x2s1"``, a 2x2 convolution with stride 1
        and padding 1 (HeadHunter's checkpoints; strides 4, 8, 16).
    num_classes: None: without classifier layer. names: class names; empty: unknown.
    """

    width: float = 0.25
    activation: str = "leaky_relu"
    negative_slope: float = 0.1
    stem: str = "3x3s2"
    num_classes: int | None = 1000
    names: tuple[str, ...] = ()
    norm: NormConfig = NormConfig()
    transform: ClassifierTransform = ClassifierTransform()

    def __post_init__(self) -> None:
        if self.stem not in ("3x3s2", "2x2s1"):
            raise ValueError(f'stem must be "3x3s2" or "2x2s1", not {self.stem!r}')


class DepthwiseSeparable(nnx.Module):
    """A 3x3 depthwise convolution, then a 1x1 one, each with norm and activation."""

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int, config: MobileNetV1Config, numerics: Numerics,
        rngs: nnx.Rngs,
    ):  # fmt: skip
        self.depthwise = _conv(in_channels, in_channels, 3, stride, in_channels, config, numerics, rngs)
        self.pointwise = _conv(in_channels, out_channels, 1, 1, 1, config, numerics, rngs)
        self.stride = stride

    def __call__(self, x: Array, extents: Array | None = None, *, train: bool = False) -> Array:
        x = self.depthwise(x, extents, train=train)
        return self.pointwise(x, strided(extents, self.stride), train=train)


def _conv(
    inputs: int, outputs: int, kernel: int, stride: int, groups: int, config: MobileNetV1Config, numerics: Numerics,
    rngs: nnx.Rngs, padding: int | None = None,
) -> ConvNormAct:  # fmt: skip
    return ConvNormAct(
        inputs,
        outputs,
        kernel,
        stride=stride,
        padding=padding,
        groups=groups,
        norm=config.norm,
        activation=config.activation,
        negative_slope=config.negative_slope,
        kernel_init=TORCH_DEFAULT,
        numerics=numerics,
        rngs=rngs,
    )


class MobileNetV1(Classifier):
    """``model(x)`` returns logits; ``model.features(x)`` returns ``stage1`` to ``stage3``."""

    masks_padding = True
    names = ("stage1", "stage2", "stage3")

    def __init__(self, config: MobileNetV1Config, *, numerics: Numerics = Numerics(), rngs: nnx.Rngs):
        self.config = config
        channels = int(STEM_CHANNELS * config.width)
        kernel, self.stem_stride, padding = (3, 2, 1) if config.stem == "3x3s2" else (2, 1, 1)
        self.stem = _conv(3, channels, kernel, self.stem_stride, 1, config, numerics, rngs, padding)
        for name, stage in zip(self.names, STAGES, strict=True):
            blocks = []
            for width, stride in stage:
                outputs = int(width * config.width)
                blocks.append(
                    DepthwiseSeparable(channels, outputs, stride=stride, config=config, numerics=numerics, rngs=rngs)
                )
                channels = outputs
            setattr(self, name, nnx.List(blocks))
        super().__init__(channels, config.num_classes, numerics=numerics, rngs=rngs)

    @property
    def overhang(self) -> int:
        """See `jaxdet.backbones.Backbone`: the 2x2 stem adds one pixel."""
        return int(self.config.stem == "2x2s1")

    @property
    def channels(self) -> dict[str, int]:
        return {name: int(stage[-1][0] * self.config.width) for name, stage in zip(self.names, STAGES, strict=True)}

    @property
    def strides(self) -> dict[str, int]:
        return {name: self.stem_stride * 4 * 2**index for index, name in enumerate(self.names)}

    def features(self, x: Array, extents: Array | None = None, *, train: bool = False) -> dict[str, Array]:
        """The feature maps ``stage1`` to ``stage3``, by default with strides 8, 16 and 32.

        Args:
            x: normalised images ``[B, H, W, 3]``.
            extents: ``[B, 2]`` (height, width) of each image, rounded up to a multiple of 32. Maps are undefined
                outside of it. None: no padding; the canvas may have any size.
        """
        x = self.stem(x, extents, train=train)
        extents = self.stem.out_extents(extents)
        maps = {}
        for name in self.names:
            for block in getattr(self, name):
                x = block(x, extents, train=train)
                extents = strided(extents, block.stride)
            maps[name] = x
        return maps

"""Darknet-53 (Redmon and Farhadi 2018): 3x3 and 1x1 convolutions with batch norm and LeakyReLU, identity shortcuts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flax import nnx
from jax import Array

from jaxdet.backbones.base import BackboneConfig, Classifier, ClassifierTransform
from jaxdet.nn import TORCH_DEFAULT, ConvNormAct, NormConfig, Numerics, strided

STEM_CHANNELS = 32
BLOCKS = (1, 2, 8, 8, 4)

# Darknet only divides by 255. timm's weights expect ImageNet's mean and standard deviation.
DARKNET_TRANSFORM = ClassifierTransform(256, 256, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Darknet53Config(BackboneConfig):
    """Configuration of Darknet-53.

    negative_slope: of LeakyReLU: 0.1 in Darknet; 0.01 in timm and in other PyTorch implementations.
    num_classes: None: without classifier layer. names: class names; empty: unknown.
    """

    set_by_origin: ClassVar[tuple[str, ...]] = ("negative_slope", "transform")

    negative_slope: float = 0.1
    num_classes: int | None = 18
    names: tuple[str, ...] = ()
    norm: NormConfig = NormConfig()
    transform: ClassifierTransform = DARKNET_TRANSFORM


def _conv(
    inputs: int, outputs: int, kernel: int, stride: int, config: Darknet53Config, numerics: Numerics, rngs: nnx.Rngs
) -> ConvNormAct:
    return ConvNormAct(
        inputs,
        outputs,
        kernel,
        stride=stride,
        norm=config.norm,
        activation="leaky_relu",
        negative_slope=config.negative_slope,
        kernel_init=TORCH_DEFAULT,
        numerics=numerics,
        rngs=rngs,
    )


class DarkResidual(nnx.Module):
    """1x1 convolution to half of the channels, 3x3 convolution back, and the addition without activation."""

    def __init__(self, channels: int, *, config: Darknet53Config, numerics: Numerics, rngs: nnx.Rngs):
        self.conv1 = _conv(channels, channels // 2, 1, 1, config, numerics, rngs)
        self.conv2 = _conv(channels // 2, channels, 3, 1, config, numerics, rngs)

    def __call__(self, x: Array, extents: Array | None = None, *, train: bool = False) -> Array:
        return x + self.conv2(self.conv1(x, extents, train=train), extents, train=train)


class DarkStage(nnx.Module):
    """A 3x3 convolution with stride 2 that doubles the channels, then residual blocks."""

    def __init__(self, in_channels: int, blocks: int, *, config: Darknet53Config, numerics: Numerics, rngs: nnx.Rngs):
        self.downsample = _conv(in_channels, 2 * in_channels, 3, 2, config, numerics, rngs)
        self.blocks = nnx.List(
            DarkResidual(2 * in_channels, config=config, numerics=numerics, rngs=rngs) for _ in range(blocks)
        )

    def __call__(self, x: Array, extents: Array | None = None, *, train: bool = False) -> Array:
        x = self.downsample(x, extents, train=train)
        extents = strided(extents, 2)
        for block in self.blocks:
            x = block(x, extents, train=train)
        return x


class Darknet53(Classifier):
    """``model(x)`` returns logits; ``model.features(x)`` returns ``stage1`` to ``stage5`` with strides 2 to 32."""

    masks_padding = True
    names = ("stage1", "stage2", "stage3", "stage4", "stage5")

    def __init__(self, config: Darknet53Config, *, numerics: Numerics = Numerics(), rngs: nnx.Rngs):
        self.config = config
        self.stem = _conv(3, STEM_CHANNELS, 3, 1, config, numerics, rngs)
        channels = STEM_CHANNELS
        for name, blocks in zip(self.names, BLOCKS, strict=True):
            setattr(self, name, DarkStage(channels, blocks, config=config, numerics=numerics, rngs=rngs))
            channels *= 2
        super().__init__(channels, config.num_classes, numerics=numerics, rngs=rngs)

    @property
    def channels(self) -> dict[str, int]:
        return {name: STEM_CHANNELS * 2 ** (index + 1) for index, name in enumerate(self.names)}

    @property
    def strides(self) -> dict[str, int]:
        return {name: 2 ** (index + 1) for index, name in enumerate(self.names)}

    def features(self, x: Array, extents: Array | None = None, *, train: bool = False) -> dict[str, Array]:
        """The feature maps ``stage1`` to ``stage5`` with strides 2 to 32.

        Args:
            x: images ``[B, H, W, 3]``, normalised by ``config.transform``.
            extents: ``[B, 2]`` (height, width) of each image, rounded up to a multiple of 32. Maps are undefined
                outside of it. None: no padding; the canvas may have any size.
        """
        x = self.stem(x, extents, train=train)
        maps = {}
        for name in self.names:
            x = getattr(self, name)(x, extents, train=train)
            extents = strided(extents, 2)
            maps[name] = x
        return maps

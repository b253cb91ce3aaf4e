"""ResNet (He et al. 2015) with bottleneck blocks. As in torchvision ("v1.5"), the 3x3 convolution has the stride."""

from __future__ import annotations

from dataclasses import dataclass

from flax import nnx
from jax import Array

from jaxdet.backbones.base import BackboneConfig, Classifier, ClassifierTransform
from jaxdet.nn import Activation, ConvNormAct, MaxPool, NormConfig, Numerics, strided

EXPANSION = 4
_MOST_BLOCKS = 256  # per stage; the limit catches damaged files before a model of 10^12 blocks is built


@dataclass(frozen=True)
class ResNetConfig(BackboneConfig):
    """Configuration of ResNet.

    blocks: bottleneck blocks per stage; (3, 4, 6, 3) is ResNet-50.
    num_classes: None: without classifier layer. names: class names; empty: unknown.
    """

    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    num_classes: int | None = 1000
    names: tuple[str, ...] = ()
    norm: NormConfig = NormConfig()
    transform: ClassifierTransform = ClassifierTransform()

    def __post_init__(self) -> None:
        if len(self.blocks) != 4 or not all(1 <= count <= _MOST_BLOCKS for count in self.blocks):
            raise ValueError(f"blocks must be four counts from 1 to {_MOST_BLOCKS}, not {self.blocks}")


class Bottleneck(nnx.Module):
    """1x1, 3x3 and 1x1 convolutions, added to the shortcut, then ReLU."""

    def __init__(
        self, in_channels: int, width: int, *, stride: int, norm: NormConfig, numerics: Numerics, rngs: nnx.Rngs
    ):
        def conv(inputs: int, outputs: int, kernel: int, step: int = 1, activation: str | None = "relu") -> ConvNormAct:
            return ConvNormAct(
                inputs, outputs, kernel, stride=step, norm=norm, activation=activation, numerics=numerics, rngs=rngs
            )

        out_channels = width * EXPANSION
        self.conv1 = conv(in_channels, width, 1)
        self.conv2 = conv(width, width, 3, stride)
        self.conv3 = conv(width, out_channels, 1, activation=None)
        needs_projection = stride != 1 or in_channels != out_channels
        self.downsample = nnx.data(conv(in_channels, out_channels, 1, stride, None) if needs_projection else None)
        self.act = Activation("relu")
        self.stride = stride

    def __call__(self, x: Array, extents: Array | None = None, *, train: bool = False) -> Array:
        y = self.conv1(x, extents, train=train)
        y = self.conv2(y, extents, train=train)
        y = self.conv3(y, strided(extents, self.stride), train=train)
        if self.downsample is not None:
            x = self.downsample(x, extents, train=train)
        return self.act(x + y)


class ResNet(Classifier):
    """``model(x)`` returns logits; ``model.features(x)`` returns ``layer1`` to ``layer4`` with strides 4 to 32."""

    masks_padding = True
    names = ("layer1", "layer2", "layer3", "layer4")

    def __init__(self, config: ResNetConfig, *, numerics: Numerics = Numerics(), rngs: nnx.Rngs):
        self.config = config
        self.conv1 = ConvNormAct(3, 64, 7, stride=2, norm=config.norm, numerics=numerics, rngs=rngs)
        self.maxpool = MaxPool(3, stride=2, padding=1)
        channels = 64
        for index, (name, blocks) in enumerate(zip(self.names, config.blocks, strict=True)):
            width = 64 * 2**index
            stage = []
            for block in range(blocks):
                stride = 2 if block == 0 and index > 0 else 1
                stage.append(Bottleneck(channels, width, stride=stride, norm=config.norm, numerics=numerics, rngs=rngs))
                channels = width * EXPANSION
            setattr(self, name, nnx.List(stage))
        super().__init__(channels, config.num_classes, numerics=numerics, rngs=rngs)

    @property
    def channels(self) -> dict[str, int]:
        return {name: 64 * 2**index * EXPANSION for index, name in enumerate(self.names)}

    @property
    def strides(self) -> dict[str, int]:
        return {name: 4 * 2**index for index, name in enumerate(self.names)}

    def features(self, x: Array, extents: Array | None = None, *, train: bool = False) -> dict[str, Array]:
        """The feature maps ``layer1`` ``[B, H / 4, W / 4, 256]`` to ``layer4`` ``[B, H / 32, W / 32, 2048]``.

        Args:
            x: normalised images ``[B, H, W, 3]``.
            extents: ``[B, 2]`` (height, width) of each image, rounded up to a multiple of 32. Maps are undefined
                outside of it. None: no padding; the canvas may have any size.
        """
        x = self.conv1(x, extents, train=train)
        extents = strided(extents, 2)
        x = self.maxpool(x, extents)
        extents = strided(extents, 2)
        maps = {}
        for name in self.names:
            for block in getattr(self, name):
                x = block(x, extents, train=train)
                extents = strided(extents, block.stride)
            maps[name] = x
        return maps

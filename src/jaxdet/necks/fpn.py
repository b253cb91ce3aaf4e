"""Feature pyramids: torchvision's (Lin et al. 2016) and RetinaFace's three-level one."""

from __future__ import annotations

from collections.abc import Mapping

from flax import nnx
from jax import Array

from jaxdet.necks.extra_blocks import ExtraBlocks, LastLevelMaxPool
from jaxdet.nn import KAIMING_UNIFORM, ConvNormAct, NormConfig, Numerics, strided
from jaxdet.ops.resize import resize_nearest


def _by_resolution(maps: Mapping[str, Array]) -> list[str]:
    """Names of the maps, highest resolution first. The order of the dict is unreliable: jit sorts dicts by name."""
    return sorted(maps, key=lambda name: -maps[name].shape[1] * maps[name].shape[2])


def _upsample_to(x: Array, like: Array) -> Array:
    return resize_nearest(x, (like.shape[1], like.shape[2]))


class FPN(nnx.Module):
    """torchvision's ``FeaturePyramidNetwork``: 1x1 lateral convolutions, nearest-neighbour top-down path, 3x3 outputs.

    Args:
        in_channels_list: channels of each map, highest resolution first.
        out_channels: channels of every output.
        norm: the norm after each convolution (torchvision's v2 detector); None: biases (its first one).
        pool: add a ``LastLevelMaxPool``, unless ``extra_blocks`` is given.
        extra_blocks: the module that adds extra levels, such as a ``LastLevelP6P7``.
    """

    def __init__(
        self,
        in_channels_list: tuple[int, ...],
        out_channels: int,
        *,
        norm: NormConfig | None = None,
        pool: bool = True,
        extra_blocks: ExtraBlocks | None = None,
        numerics: Numerics = Numerics(),
        rngs: nnx.Rngs,
    ):
        def conv(inputs: int, kernel: int) -> ConvNormAct:
            return ConvNormAct(
                inputs,
                out_channels,
                kernel,
                norm=norm,
                activation=None,
                kernel_init=KAIMING_UNIFORM,
                numerics=numerics,
                rngs=rngs,
            )

        self.inner_blocks = nnx.List(conv(channels, 1) for channels in in_channels_list)
        self.layer_blocks = nnx.List(conv(out_channels, 3) for _ in in_channels_list)
        self.out_channels = out_channels
        if extra_blocks is None and pool:
            extra_blocks = LastLevelMaxPool()
        self.extra_blocks = nnx.data(extra_blocks)

    def __call__(
        self, maps: Mapping[str, Array], extents: Mapping[str, Array | None] | None = None, *, train: bool = False
    ) -> dict[str, Array]:
        """Computes the pyramid.

        Args:
            maps: feature maps ``[B, H_l, W_l, C_l]`` by name.
            extents: ``[B, 2]`` by name (see `jaxdet.nn.masking`); None: no padding.

        Returns:
            Maps ``[B, H_l, W_l, out_channels]`` by the same names, highest resolution first, and the extra levels.
        """
        if len(maps) != len(self.inner_blocks):
            raise ValueError(f"this FPN takes {len(self.inner_blocks)} feature maps, got {len(maps)}")
        extents = dict.fromkeys(maps) if extents is None else extents
        names = _by_resolution(maps)
        outputs: dict[str, Array] = {}
        top_down = None
        for name, inner, layer in reversed(list(zip(names, self.inner_blocks, self.layer_blocks, strict=True))):
            lateral = inner(maps[name], extents[name], train=train)
            top_down = lateral if top_down is None else lateral + _upsample_to(top_down, lateral)
            outputs[name] = layer(top_down, extents[name], train=train)
        outputs = {name: outputs[name] for name in names}
        if self.extra_blocks is not None:
            outputs |= self.extra_blocks(outputs, maps, extents[names[-1]])
        return outputs

    def strides(self, strides: Mapping[str, int]) -> dict[str, int]:
        """The strides of the outputs from those of the inputs."""
        strides = dict(strides)
        return strides | self.extra_blocks.strides(list(strides.values())[-1]) if self.extra_blocks else strides


class RetinaFaceFPN(nnx.Module):
    """RetinaFace's pyramid: three levels with batch norm and LeakyReLU, and 3x3 convolutions after the two additions.

    As in the original, the negative slope is 0.1 for up to 64 channels, else 0.
    """

    def __init__(
        self,
        in_channels: tuple[int, int, int],
        out_channels: int,
        *,
        norm: NormConfig = NormConfig(),
        numerics: Numerics = Numerics(),
        rngs: nnx.Rngs,
    ):
        if len(in_channels) != 3:
            raise ValueError(f"RetinaFace's pyramid takes three feature maps, got {len(in_channels)}")

        def conv(inputs: int, kernel: int) -> ConvNormAct:
            return ConvNormAct(
                inputs,
                out_channels,
                kernel,
                norm=norm,
                activation="leaky_relu",
                negative_slope=0.1 if out_channels <= 64 else 0.0,
                numerics=numerics,
                rngs=rngs,
            )

        self.outputs = nnx.List(conv(channels, 1) for channels in in_channels)
        self.merges = nnx.List(conv(out_channels, 3) for _ in range(2))
        self.out_channels = out_channels

    def __call__(
        self, maps: Mapping[str, Array], extents: Mapping[str, Array | None] | None = None, *, train: bool = False
    ) -> dict[str, Array]:
        """Computes the pyramid of three maps; see `FPN`."""
        extents = dict.fromkeys(maps) if extents is None else extents
        names = _by_resolution(maps)
        levels = [output(maps[n], extents[n], train=train) for n, output in zip(names, self.outputs, strict=True)]
        for level in (1, 0):
            levels[level] = levels[level] + _upsample_to(levels[level + 1], levels[level])
            levels[level] = self.merges[level](levels[level], extents[names[level]], train=train)
        return dict(zip(names, levels, strict=True))

    def strides(self, strides: Mapping[str, int]) -> dict[str, int]:
        """The strides of the outputs: those of the inputs."""
        return dict(strides)


def map_extents(extents: Array | None, strides: Mapping[str, int]) -> dict[str, Array | None]:
    """The extents ``[B, 2]`` of every map from those of the images and the maps' strides."""
    return {name: strided(extents, stride) for name, stride in strides.items()}

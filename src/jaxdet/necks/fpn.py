"""Feature pyramids: torchvision's (Lin et al. 2016) and RetinaFace's three-level one."""

from __future__ import annotations

from collections.abc import Mapping

from flax import nnx
from jax import Array

from jaxdet.necks.extra_blocks import ExtraBlocks, LastLevelMaxPool
from jaxdet.nn import KAIMING_UNIFORM, ConvNormAct, NormConfig, Numerics, strided
from jaxdet.ops.resize import resize_nearest


def _by_resolution(maps: Mapping[str, Array]) -> list[str]:
    """Names of the maps, highest resolution first, whatever their order: a jit boundary sorts dicts by name."""
    return sorted(maps, key=lambda name: -maps[name].shape[1] * maps[name].shape[2])


def _upsample_to(x: Array, like: Array) -> Array:
    return resize_nearest(x, (like.shape[1], like.shape[2]))


class FPN(nnx.Module):
    """torchvision's ``FeaturePyramidNetwork``: 1x1 laterals, a nearest-neighbour top-down path, 3x3 outputs.

    Args:
        in_channels_list: channels of each map, from the highest resolution to the lowest.
        out_channels: channels of every output.
        norm: after each convolution (torchvision's v2 detector); None: a bias (its first one).
        pool: add the map ``"pool"``, every second pixel of the last one (its ``LastLevelMaxPool``).
        extra_blocks: what to add instead of that map, such as a ``LastLevelP6P7``.
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
        """Named maps ``[B, H_l, W_l, C_l]`` to the same names, highest resolution first, at ``out_channels``.

        ``extents`` holds ``[B, 2]`` a map (see `jaxdet.nn.masking`); None where images fill their canvas.
        """
        if len(maps) != len(self.inner_blocks):
            raise ValueError(f"this FPN was built for {len(self.inner_blocks)} maps and was given {len(maps)}")
        own = dict.fromkeys(maps) if extents is None else extents
        names = _by_resolution(maps)
        outputs: dict[str, Array] = {}
        top_down = None
        for name, inner, layer in reversed(list(zip(names, self.inner_blocks, self.layer_blocks, strict=True))):
            lateral = inner(maps[name], own[name], train=train)
            top_down = lateral if top_down is None else lateral + _upsample_to(top_down, lateral)
            outputs[name] = layer(top_down, own[name], train=train)
        outputs = {name: outputs[name] for name in names}
        if self.extra_blocks is not None:
            outputs |= self.extra_blocks(outputs, maps, own[names[-1]])
        return outputs

    def strides(self, strides: Mapping[str, int]) -> dict[str, int]:
        """The strides of the outputs, given those of the inputs."""
        strides = dict(strides)
        return strides | self.extra_blocks.strides(list(strides.values())[-1]) if self.extra_blocks else strides


class RetinaFaceFPN(nnx.Module):
    """RetinaFace's pyramid: three levels, batch norm and LeakyReLU everywhere, 3x3 merges on the two lower levels.

    The slope is 0.1 for at most 64 channels and 0 above, as the original's.
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
            raise ValueError(f"RetinaFace's pyramid has three levels and was given {len(in_channels)}")

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
        """Three named maps ``[B, H_l, W_l, C_l]`` to the same names, highest resolution first, at ``out_channels``."""
        own = dict.fromkeys(maps) if extents is None else extents
        names = _by_resolution(maps)
        levels = [output(maps[n], own[n], train=train) for n, output in zip(names, self.outputs, strict=True)]
        for level in (1, 0):
            levels[level] = levels[level] + _upsample_to(levels[level + 1], levels[level])
            levels[level] = self.merges[level](levels[level], own[names[level]], train=train)
        return dict(zip(names, levels, strict=True))

    def strides(self, strides: Mapping[str, int]) -> dict[str, int]:
        """The strides of the outputs: those of the inputs."""
        return dict(strides)


def map_extents(extents: Array | None, strides: Mapping[str, int]) -> dict[str, Array | None]:
    """The extents ``[B, 2]`` of every map, given those of the images and the maps' strides."""
    return {name: strided(extents, stride) for name, stride in strides.items()}

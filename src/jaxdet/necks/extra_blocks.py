"""Extra pyramid levels: torchvision's ``LastLevelMaxPool`` and ``LastLevelP6P7``."""

from __future__ import annotations

from collections.abc import Mapping

import jax
from flax import nnx
from jax import Array

from jaxdet.nn import KAIMING_UNIFORM, ConvNormAct, Numerics

POOL = "pool"  # torchvision's name of the map that LastLevelMaxPool adds


class LastLevelMaxPool(nnx.Module):
    """Adds ``"pool"``: the last level, subsampled with stride 2 (1x1 max pooling)."""

    def __call__(
        self, outputs: Mapping[str, Array], inputs: Mapping[str, Array], extents: Array | None = None
    ) -> dict[str, Array]:
        """The added map, from the pyramid's outputs ``[B, H_l, W_l, C]``, highest resolution first."""
        return {POOL: list(outputs.values())[-1][:, ::2, ::2]}

    def strides(self, last: int) -> dict[str, int]:
        """The stride of the added map from that of the last level."""
        return {POOL: 2 * last}


class LastLevelP6P7(nnx.Module):
    """Adds ``"p6"``, a 3x3 convolution with stride 2 on the last level, and ``"p7"``, another one on ``relu(p6)``.

    Args:
        in_channels: input channels of P6. As in torchvision, its input is the pyramid's last output (P5) if this
            equals ``out_channels``, else the pyramid's last input (C5).
        out_channels: channels of both maps.
    """

    def __init__(self, in_channels: int, out_channels: int, *, numerics: Numerics = Numerics(), rngs: nnx.Rngs):
        def conv(inputs: int) -> ConvNormAct:
            return ConvNormAct(
                inputs,
                out_channels,
                3,
                stride=2,
                activation=None,
                kernel_init=KAIMING_UNIFORM,
                numerics=numerics,
                rngs=rngs,
            )

        self.p6 = conv(in_channels)
        self.p7 = conv(out_channels)
        self.use_p5 = in_channels == out_channels

    def __call__(
        self, outputs: Mapping[str, Array], inputs: Mapping[str, Array], extents: Array | None = None
    ) -> dict[str, Array]:
        """The added maps.

        Args:
            outputs: the pyramid's outputs ``[B, H_l, W_l, C]``, highest resolution first.
            inputs: the pyramid's inputs, by the same names.
            extents: ``[B, 2]`` of the last level (see `jaxdet.nn.masking`).
        """
        name = list(outputs)[-1]
        p6 = self.p6(outputs[name] if self.use_p5 else inputs[name], extents)
        p7 = self.p7(jax.nn.relu(p6), self.p6.out_extents(extents))
        return {"p6": p6, "p7": p7}

    def strides(self, last: int) -> dict[str, int]:
        """The strides of the added maps from that of the last level."""
        return {"p6": 2 * last, "p7": 4 * last}


ExtraBlocks = LastLevelMaxPool | LastLevelP6P7

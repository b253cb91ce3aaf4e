"""A head that predicts at every anchor of a pyramid, with the same parameters on all levels.

Axes: B images, L levels, A anchors of a location, N = H * W * A anchors of a level, K numbers an anchor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
from flax import nnx
from jax import Array

from jaxdet.nn import Constant, Conv, ConvNormAct, Normal, NormConfig, Numerics, mask


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DenseOutputs:
    """The predictions of a dense detector, one entry a level.

    ``valid`` is False for anchors beyond an image's own part of the canvas; their slots may hold anything.
    """

    logits: tuple[Array, ...]  # [B, N, K] of classes
    deltas: tuple[Array, ...]  # [B, N, 4] relative to the anchors
    anchors: tuple[Array, ...]  # [B, N, 4] xyxy
    valid: tuple[Array, ...]  # [B, N] bool


class DenseHead(nnx.Module):
    """A tower of 3x3 convolutions with ReLU and a 3x3 prediction: half of torchvision's ``RetinaNetHead``.

    Kernels start as normal numbers of standard deviation 0.01, biases as 0.

    Args:
        in_channels: of all maps and of the tower.
        num_anchors: A.
        outputs: K.
        depth: convolutions in the tower.
        norm: after each of them.
        use_bias: of the tower's convolutions; None: they have one where no norm follows. FCOS has both.
        bias: what the prediction's bias starts from.
    """

    def __init__(
        self,
        in_channels: int,
        num_anchors: int,
        outputs: int,
        *,
        depth: int = 4,
        norm: NormConfig | None = None,
        use_bias: bool | None = None,
        bias: float = 0.0,
        numerics: Numerics = Numerics(),
        rngs: nnx.Rngs,
    ):
        init = Normal(0.01)
        self.tower = nnx.List(
            ConvNormAct(
                in_channels,
                in_channels,
                use_bias=use_bias,
                norm=norm,
                kernel_init=init,
                numerics=numerics,
                rngs=rngs,
            )
            for _ in range(depth)
        )
        self.output = Conv(
            in_channels,
            num_anchors * outputs,
            3,
            kernel_init=init,
            bias_init=Constant(bias),
            numerics=numerics,
            rngs=rngs,
        )
        self.outputs = outputs

    def hidden(self, x: Array, extents: Array | None = None, *, train: bool = False) -> Array:
        """What the tower makes of one map ``[B, H, W, C]``, zero beyond its extents ``[B, 2]``; the same shape."""
        for conv in self.tower:
            x = conv(x, extents, train=train)
        return mask(x, extents)

    def __call__(
        self,
        maps: Mapping[str, Array],
        extents: Mapping[str, Array | None] | None = None,
        *,
        train: bool = False,
    ) -> tuple[Array, ...]:
        """Predictions for every anchor.

        Args:
            maps: ``[B, H, W, C]`` a level.
            extents: ``[B, 2]`` a level (see `jaxdet.nn.masking`); None where images fill their canvas.
            train: of the norms.

        Returns:
            ``[B, N, K]`` a level in the order of the maps, their anchors by row, column and anchor of the location.
        """
        found = []
        for name, x in maps.items():
            x = self.output(self.hidden(x, None if extents is None else extents[name], train=train))  # [B, H, W, A * K]
            found.append(x.reshape(x.shape[0], -1, self.outputs))
        return tuple(found)

"""The head of dense detectors, which predicts for every anchor and shares its parameters between levels.

Axes: B images, A anchors per location, N = H * W * A anchors of a level, K values per anchor.
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
    """The predictions of a dense detector, one entry per level.

    Anchors in padding are not valid; their values are arbitrary.
    """

    logits: tuple[Array, ...]  # [B, N, K], K classes
    deltas: tuple[Array, ...]  # [B, N, 4] relative to the anchors
    anchors: tuple[Array, ...]  # [B, N, 4] xyxy
    valid: tuple[Array, ...]  # [B, N] bool


class DenseHead(nnx.Module):
    """3x3 convolutions with ReLU, then a 3x3 prediction: one branch of torchvision's ``RetinaNetHead``.

    Kernels are initialised from a normal distribution with standard deviation 0.01.

    Args:
        in_channels: channels of all maps and hidden layers.
        num_anchors: A, anchors per location.
        outputs: K, values per anchor.
        depth: number of convolutions before the prediction.
        norm: the norm after each of them.
        use_bias: whether they have biases; None: only without norm. Those of FCOS have both.
        bias: initial value of the prediction's bias; all other biases are initially zero.
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
        """Applies the convolutions before the prediction to one map ``[B, H, W, C]`` with extents ``[B, 2]``.

        The result has the same shape, and zeros outside of the extents.
        """
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
            maps: ``[B, H, W, C]`` by level.
            extents: ``[B, 2]`` by level (see `jaxdet.nn.masking`); None: no padding.
            train: use and update batch statistics.

        Returns:
            ``[B, N, K]`` per level, in the order of the maps. Anchors are ordered by row, column, anchor.
        """
        found = []
        for name, x in maps.items():
            x = self.output(self.hidden(x, None if extents is None else extents[name], train=train))  # [B, H, W, A * K]
            found.append(x.reshape(x.shape[0], -1, self.outputs))
        return tuple(found)

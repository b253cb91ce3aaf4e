"""Context modules of RetinaFace and HeadHunter: SSH (Najibi et al. 2017), its deformable variant, and CPM.

CPM is the context module of PyramidBox (Tang et al. 2018).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxdet.nn import TORCH_DEFAULT, ConvNormAct, DeformConvNorm, NormConfig, Numerics


@dataclass(frozen=True)
class ContextConfig:
    """A context module on every level of the pyramid.

    kind: None, ``"ssh"``, ``"cpm"`` or ``"deform_ssh"``.
    default_filter: whether SSH stacks 3x3 convolutions (RetinaFace); False: 5x5 and 7x7 convolutions (HeadHunter).
    """

    kind: str | None = field(default=None, metadata={"option": "context"})
    default_filter: bool = field(default=False, metadata={"option": "default_filter"})
    norm: NormConfig = NormConfig()

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in CONTEXTS:
            raise ValueError(f"context must be None or one of {', '.join(CONTEXTS)}, not {self.kind!r}")


class SSH(nnx.Module):
    """Concatenates three branches of increasing receptive field (1/2, 1/4, 1/4 of the channels), then ReLU."""

    deformable = False

    def __init__(self, channels: int, *, config: ContextConfig, numerics: Numerics = Numerics(), rngs: nnx.Rngs):
        if channels % 4:
            raise ValueError(f"SSH needs a multiple of 4 channels, got {channels}")
        half, quarter = channels // 2, channels // 4
        five, seven = (3, 3) if config.default_filter else (5, 7)
        slope = 0.1 if channels <= 64 else 0.0

        def conv(inputs: int, outputs: int, kernel: int, activation: str | None) -> ConvNormAct:
            return ConvNormAct(
                inputs, outputs, kernel, norm=config.norm, activation=activation, negative_slope=slope,
                kernel_init=TORCH_DEFAULT, numerics=numerics, rngs=rngs,
            )  # fmt: skip

        self.conv3: ConvNormAct | DeformConvNorm
        if self.deformable:
            self.conv3 = DeformConvNorm(channels, half, norm=config.norm, numerics=numerics, rngs=rngs)
        else:
            self.conv3 = conv(channels, half, 3, None)
        self.conv5_1 = conv(channels, quarter, five, "leaky_relu")
        self.conv5_2 = conv(quarter, quarter, five, None)
        self.conv7_2 = conv(quarter, quarter, seven, "leaky_relu")
        self.conv7_3 = conv(quarter, quarter, seven, None)

    def __call__(self, x: Array, extents: Array | None = None, *, train: bool = False) -> Array:
        """Input ``[B, H, W, C]``, extents ``[B, 2]``; output ``[B, H, W, C]``."""
        shared = self.conv5_1(x, extents, train=train)
        branches = [
            self.conv3(x, extents, train=train),
            self.conv5_2(shared, extents, train=train),
            self.conv7_3(self.conv7_2(shared, extents, train=train), extents, train=train),
        ]
        return jax.nn.relu(jnp.concatenate(branches, axis=-1))


class DeformSSH(SSH):
    """SSH with a deformable convolution as first branch."""

    deformable = True


class CPM(nnx.Module):
    """A residual block with 1024 channels, then SSH with stacked 3x3 convolutions without norms."""

    def __init__(self, channels: int, *, config: ContextConfig, numerics: Numerics = Numerics(), rngs: nnx.Rngs):
        def conv(
            inputs: int, outputs: int, kernel: int, activation: str | None, norm: NormConfig | None = config.norm
        ) -> ConvNormAct:
            return ConvNormAct(
                inputs, outputs, kernel, norm=norm, activation=activation, kernel_init=TORCH_DEFAULT,
                numerics=numerics, rngs=rngs,
            )  # fmt: skip

        wide, half, quarter = 1024, 256, 128
        self.branch1 = conv(channels, wide, 1, None)
        self.branch2a = conv(channels, half, 1, "relu")
        self.branch2b = conv(half, half, 3, "relu")
        self.branch2c = conv(half, wide, 1, None)
        self.ssh_1 = conv(wide, half, 3, None, None)
        self.ssh_dimred = conv(wide, quarter, 3, "relu", None)
        self.ssh_2 = conv(quarter, quarter, 3, None, None)
        self.ssh_3a = conv(quarter, quarter, 3, "relu", None)
        self.ssh_3b = conv(quarter, quarter, 3, None, None)
        self.ssh_final = conv(half + 2 * quarter, channels, 1, "relu")

    def __call__(self, x: Array, extents: Array | None = None, *, train: bool = False) -> Array:
        """Input ``[B, H, W, C]``, extents ``[B, 2]``; output ``[B, H, W, C]``."""
        y = self.branch2a(x, extents, train=train)
        y = self.branch2b(y, extents, train=train)
        y = jax.nn.relu(self.branch2c(y, extents, train=train) + self.branch1(x, extents, train=train))
        reduced = self.ssh_dimred(y, extents)
        branches = [
            self.ssh_1(y, extents),
            self.ssh_2(reduced, extents),
            self.ssh_3b(self.ssh_3a(reduced, extents), extents),
        ]
        return self.ssh_final(jnp.concatenate(branches, axis=-1), extents, train=train)


CONTEXTS: dict[str, type[SSH] | type[CPM]] = {"ssh": SSH, "cpm": CPM, "deform_ssh": DeformSSH}


def make_context(
    config: ContextConfig, channels: int, levels: int, *, numerics: Numerics = Numerics(), rngs: nnx.Rngs
) -> nnx.List | None:
    """One context module per level; None without context."""
    if config.kind is None:
        return None
    module = CONTEXTS[config.kind]
    return nnx.List(module(channels, config=config, numerics=numerics, rngs=rngs) for _ in range(levels))

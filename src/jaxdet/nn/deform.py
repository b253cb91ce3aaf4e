"""Layers that read or write between pixels: deformable and transposed convolution."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxdet.nn.initializers import TORCH_DEFAULT, ZEROS, torch_default_bias
from jaxdet.nn.layers import Conv
from jaxdet.nn.masking import mask
from jaxdet.nn.norm import NormConfig, make_norm
from jaxdet.nn.numerics import Numerics
from jaxdet.ops.conv.deform import headhunter_deform_conv2d
from jaxdet.ops.conv.transpose import conv_transpose_2x


class DeformConv(nnx.Module):
    """HeadHunter's 3x3 deformable convolution, stride 1: ``offset`` moves its taps, ``modulation`` weighs them.

    Offsets are rows of all taps, then columns of all taps. Both start as constants, drawn at random, as the original's.
    """

    def __init__(self, in_channels: int, out_channels: int, *, numerics: Numerics = Numerics(), rngs: nnx.Rngs):
        def position_wise(channels: int) -> Conv:
            conv = Conv(in_channels, channels, 3, kernel_init=ZEROS, numerics=numerics, rngs=rngs)
            bias = torch_default_bias(9 * in_channels)(rngs.params(), (channels,), jnp.dtype(numerics.param_dtype))
            conv.bias = nnx.Param(bias)
            return conv

        dtype = jnp.dtype(numerics.param_dtype)
        self.kernel = nnx.Param(TORCH_DEFAULT(rngs.params(), (3, 3, in_channels, out_channels), dtype))
        self.offset = position_wise(18)
        self.modulation = position_wise(9)
        self.numerics = numerics

    def __call__(self, x: Array, extents: Array | None = None) -> Array:
        """``x [B, H, W, in]``, zero beyond its extents ``[B, 2]`` as PyTorch's padding is, to ``[B, H, W, out]``."""
        x = mask(x, extents)
        rows, columns = jnp.split(self.offset(x), 2, axis=-1)  # [B, H, W, 9] each
        factors = jax.nn.sigmoid(self.modulation(x))
        kernel = self.kernel[...].astype(x.dtype)
        precision = self.numerics.precision
        return headhunter_deform_conv2d(x, jnp.stack([rows, columns], -1), factors, kernel, precision=precision)


class DeformConvNorm(nnx.Module):
    """A deformable convolution and its norm."""

    def __init__(
        self, in_channels: int, out_channels: int, *, norm: NormConfig, numerics: Numerics = Numerics(), rngs: nnx.Rngs
    ):
        self.conv = DeformConv(in_channels, out_channels, numerics=numerics, rngs=rngs)
        self.norm = make_norm(out_channels, config=norm, numerics=numerics)

    def __call__(self, x: Array, extents: Array | None = None, *, train: bool = False) -> Array:
        return self.norm(self.conv(x, extents), extents, train=train)


class Upscale(nnx.Module):
    """A learned doubling of a map: PyTorch's ``ConvTranspose2d(channels, channels, 8, stride=2, padding=3)``."""

    def __init__(self, channels: int, *, numerics: Numerics = Numerics(), rngs: nnx.Rngs):
        dtype = jnp.dtype(numerics.param_dtype)
        size = 8
        self.kernel = nnx.Param(TORCH_DEFAULT(rngs.params(), (size, size, channels, channels), dtype))
        self.bias = nnx.Param(torch_default_bias(size * size * channels)(rngs.params(), (channels,), dtype))
        self.numerics = numerics

    def __call__(self, x: Array, extents: Array | None = None) -> Array:
        """``x [B, H, W, C]``, zero beyond its extents ``[B, 2]``, to ``[B, 2 H, 2 W, C]`` of twice the extents."""
        x = mask(x, extents).astype(self.numerics.dtype)
        x = conv_transpose_2x(x, self.kernel[...].astype(x.dtype), precision=self.numerics.precision)
        return x + self.bias[...].astype(x.dtype)[None, None, None]

"""Deformable and transposed convolution layers."""

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
    """HeadHunter's modulated 3x3 deformable convolution with stride 1.

    ``offset`` predicts the offsets of the taps (all rows, then all columns), ``modulation`` their weights. As in the
    original, their kernels are initially zero and their biases random.
    """

    def __init__(self, in_channels: int, out_channels: int, *, numerics: Numerics = Numerics(), rngs: nnx.Rngs):
        def prediction(channels: int) -> Conv:
            conv = Conv(in_channels, channels, 3, kernel_init=ZEROS, numerics=numerics, rngs=rngs)
            bias = torch_default_bias(9 * in_channels)(rngs.params(), (channels,), jnp.dtype(numerics.param_dtype))
            conv.bias = nnx.Param(bias)
            return conv

        dtype = jnp.dtype(numerics.param_dtype)
        self.kernel = nnx.Param(TORCH_DEFAULT(rngs.params(), (3, 3, in_channels, out_channels), dtype))
        self.offset = prediction(18)
        self.modulation = prediction(9)
        self.numerics = numerics

    def __call__(self, x: Array, extents: Array | None = None) -> Array:
        """``x [B, H, W, in_channels]``, masked to its extents ``[B, 2]``, to ``[B, H, W, out_channels]``."""
        x = mask(x, extents)
        rows, columns = jnp.split(self.offset(x), 2, axis=-1)  # [B, H, W, 9] each
        factors = jax.nn.sigmoid(self.modulation(x))
        kernel = self.kernel[...].astype(x.dtype)
        precision = self.numerics.precision
        return headhunter_deform_conv2d(x, jnp.stack([rows, columns], -1), factors, kernel, precision=precision)


class DeformConvNorm(nnx.Module):
    """A deformable convolution, then a norm."""

    def __init__(
        self, in_channels: int, out_channels: int, *, norm: NormConfig, numerics: Numerics = Numerics(), rngs: nnx.Rngs
    ):
        self.conv = DeformConv(in_channels, out_channels, numerics=numerics, rngs=rngs)
        self.norm = make_norm(out_channels, config=norm, numerics=numerics)

    def __call__(self, x: Array, extents: Array | None = None, *, train: bool = False) -> Array:
        return self.norm(self.conv(x, extents), extents, train=train)


class Upscale(nnx.Module):
    """Learned upsampling by 2: PyTorch's ``ConvTranspose2d(channels, channels, 8, stride=2, padding=3)``."""

    def __init__(self, channels: int, *, numerics: Numerics = Numerics(), rngs: nnx.Rngs):
        dtype = jnp.dtype(numerics.param_dtype)
        size = 8
        self.kernel = nnx.Param(TORCH_DEFAULT(rngs.params(), (size, size, channels, channels), dtype))
        self.bias = nnx.Param(torch_default_bias(size * size * channels)(rngs.params(), (channels,), dtype))
        self.numerics = numerics

    def __call__(self, x: Array, extents: Array | None = None) -> Array:
        """``x [B, H, W, C]``, masked to its extents ``[B, 2]``, to ``[B, 2 H, 2 W, C]`` with twice the extents."""
        x = mask(x, extents).astype(self.numerics.dtype)
        x = conv_transpose_2x(x, self.kernel[...].astype(x.dtype), precision=self.numerics.precision)
        return x + self.bias[...].astype(x.dtype)[None, None, None]

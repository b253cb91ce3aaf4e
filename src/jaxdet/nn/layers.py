"""Convolution, linear and pooling layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from jaxdet.nn.activations import Activation
from jaxdet.nn.initializers import KAIMING_NORMAL_FAN_OUT, TORCH_DEFAULT, ZEROS, Initializer, torch_default_bias
from jaxdet.nn.masking import mask, own_pixels, strided
from jaxdet.nn.norm import NormConfig, make_norm
from jaxdet.nn.numerics import Numerics
from jaxdet.ops.conv.depthwise import depthwise_conv
from jaxdet.ops.conv.plain import conv2d


class Conv(nnx.Conv):
    """A 2-D convolution with explicit symmetric padding, as PyTorch's ("SAME" differs at stride 2)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        use_bias: bool = True,
        kernel_init: Initializer = TORCH_DEFAULT,
        bias_init: Initializer = ZEROS,
        numerics: Numerics,
        rngs: nnx.Rngs,
    ):
        pad = (kernel_size - 1) // 2 if padding is None else padding
        super().__init__(
            in_channels,
            out_channels,
            (kernel_size, kernel_size),
            strides=stride,
            padding=((pad, pad), (pad, pad)),
            feature_group_count=groups,
            use_bias=use_bias,
            dtype=jnp.dtype(numerics.dtype),
            param_dtype=jnp.dtype(numerics.param_dtype),
            precision=numerics.precision,
            kernel_init=kernel_init,
            bias_init=bias_init,
            conv_general_dilated=_algorithm(in_channels, out_channels, groups),
            rngs=rngs,
        )
        self.kernel_init, self.bias_init = kernel_init, bias_init  # used by jaxdet.models.registry.draw


# `nnx.Conv` calls one of these in place of `lax.conv_general_dilated`; the arguments that they ignore are constant.
# They are module-level functions and not closures, so that equal models have equal graph definitions and share one
# compiled program, and so that models can be pickled.


def _dense(
    x: Array, kernel: Array, strides: Sequence[int], padding: Sequence[tuple[int, int]], *, precision: Any, **_: Any
) -> Array:
    return conv2d(x, kernel, strides, padding, precision=precision)


def _depthwise(
    x: Array, kernel: Array, strides: Sequence[int], padding: Sequence[tuple[int, int]], *, precision: Any, **_: Any
) -> Array:
    return depthwise_conv(x, kernel, strides, padding, precision=precision)


def _algorithm(in_channels: int, out_channels: int, groups: int) -> Callable[..., Array]:
    if groups == 1:
        return _dense
    return _depthwise if groups == in_channels == out_channels else lax.conv_general_dilated


class Linear(nnx.Linear):
    """A fully connected layer with PyTorch's default initialisation."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        kernel_init: Initializer = TORCH_DEFAULT,
        numerics: Numerics,
        rngs: nnx.Rngs,
    ):
        super().__init__(
            in_features,
            out_features,
            dtype=jnp.dtype(numerics.dtype),
            param_dtype=jnp.dtype(numerics.param_dtype),
            precision=numerics.precision,
            kernel_init=kernel_init,
            bias_init=torch_default_bias(in_features),
            rngs=rngs,
        )
        self.kernel_init, self.bias_init = kernel_init, torch_default_bias(in_features)


class MaxPool(nnx.Module):
    """PyTorch's ``MaxPool2d``: padding is never the maximum."""

    def __init__(self, kernel_size: int, *, stride: int, padding: int = 0):
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def __call__(self, x: Array, extents: Array | None = None) -> Array:
        """With extents, ``x [B, H, W, C]`` must not be negative (the output of a ReLU), as it is masked with zeros."""
        x = mask(x, extents)
        window, stride, pad = self.kernel_size, self.stride, self.padding
        return nnx.max_pool(x, (window, window), (stride, stride), ((pad, pad), (pad, pad)))


class GlobalAvgPool(nnx.Module):
    """The mean over height and width: ``[B, H, W, C]`` to ``[B, 1, 1, C]``."""

    def __call__(self, x: Array, extents: Array | None = None) -> Array:
        """With extents ``[B, 2]``, the mean over each image's extent; other values are ignored."""
        dtype = jnp.promote_types(x.dtype, jnp.float32)
        if extents is None:
            return x.mean((1, 2), keepdims=True, dtype=dtype).astype(x.dtype)
        number = own_pixels(extents, x.shape[1], x.shape[2]).astype(dtype)[:, None, None, None]
        return (mask(x, extents).sum((1, 2), keepdims=True, dtype=dtype) / number).astype(x.dtype)


class ConvNormAct(nnx.Module):
    """Convolution, optionally followed by normalisation and activation.

    The input is masked to its extents if the kernel is larger than one pixel (see `jaxdet.nn.masking`).

    Args:
        use_bias: whether the convolution has a bias; None: only without norm.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        use_bias: bool | None = None,
        norm: NormConfig | None = None,
        activation: str | None = "relu",
        negative_slope: float = 0.0,
        kernel_init: Initializer = KAIMING_NORMAL_FAN_OUT,
        numerics: Numerics,
        rngs: nnx.Rngs,
    ):
        self.conv = Conv(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            groups=groups,
            use_bias=norm is None if use_bias is None else use_bias,
            kernel_init=kernel_init,
            numerics=numerics,
            rngs=rngs,
        )
        self.norm = nnx.data(None if norm is None else make_norm(out_channels, config=norm, numerics=numerics))
        self.act = nnx.data(None if activation is None else Activation(activation, negative_slope=negative_slope))
        self.stride = stride
        self.padding = (kernel_size - 1) // 2 if padding is None else padding

    def __call__(self, x: Array, extents: Array | None = None, *, train: bool = False) -> Array:
        """``x [B, H, W, in]`` with extents ``[B, 2]`` of the *input* to ``[B, H', W', out]``."""
        if self.conv.kernel_size != (1, 1):
            x = mask(x, extents)
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x, self.out_extents(extents), train=train)
        return x if self.act is None else self.act(x)

    def out_extents(self, extents: Array | None) -> Array | None:
        """The extents of the output from those of the input."""
        # With an even kernel, the output may be a pixel larger or smaller.
        growth = 2 * self.padding - self.conv.kernel_size[0] + 1
        return strided(None if extents is None else extents + growth, self.stride)

"""The squeeze-and-excitation layer (Hu et al. 2018)."""

from __future__ import annotations

from flax import nnx
from jax import Array

from jaxdet.nn.activations import Activation
from jaxdet.nn.initializers import TORCH_DEFAULT, Initializer
from jaxdet.nn.layers import Conv, GlobalAvgPool
from jaxdet.nn.numerics import Numerics


class SqueezeExcitation(nnx.Module):
    """torchvision's ``SqueezeExcitation``: scales every channel by a factor computed from the channels' means.

    Args:
        input_channels: channels of input and output.
        squeeze_channels: channels between the 1x1 convolutions ``fc1`` and ``fc2``. Their biases are initially zero.
        activation: the activation after ``fc1``.
        scale_activation: the activation after ``fc2``; MobileNetV3 uses ``"hard_sigmoid"``.
    """

    def __init__(
        self,
        input_channels: int,
        squeeze_channels: int,
        activation: str = "relu",
        scale_activation: str = "sigmoid",
        *,
        kernel_init: Initializer = TORCH_DEFAULT,
        numerics: Numerics,
        rngs: nnx.Rngs,
    ):
        def conv(inputs: int, outputs: int) -> Conv:
            return Conv(inputs, outputs, 1, kernel_init=kernel_init, numerics=numerics, rngs=rngs)

        self.avgpool = GlobalAvgPool()
        self.fc1 = conv(input_channels, squeeze_channels)
        self.activation = Activation(activation)
        self.fc2 = conv(squeeze_channels, input_channels)
        self.scale_activation = Activation(scale_activation)

    def __call__(self, x: Array, extents: Array | None = None) -> Array:
        """``x [B, H, W, C]`` to the same shape; with extents ``[B, 2]`` the means are over each image's extent."""
        return self.scale_activation(self.fc2(self.activation(self.fc1(self.avgpool(x, extents))))) * x

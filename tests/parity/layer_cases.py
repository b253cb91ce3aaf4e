"""Layers that torchvision's detectors are made of, for `operator_check`: their parameters are inputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from operator_check import Arrays, Case
from torch.nn import functional

from jaxdet.nn import Activation, GroupNorm, NormConfig, Numerics, SqueezeExcitation

CHANNELS, SQUEEZED, GROUPS = 12, 4, 3


def kinks(dtype: np.dtype) -> Arrays:
    """Where the activations bend, around there, and far away."""
    values = np.concatenate([np.arange(-8, 9), np.random.default_rng(0).normal(0, 4, 200), [-1e6, 1e6, 1e-30, -1e-30]])
    return (values.astype(dtype),)


def maps(dtype: np.dtype, *shapes: tuple[int, ...]) -> Arrays:
    """Two maps far from zero mean, with a group of little variance, and parameters of these shapes."""
    rng = np.random.default_rng(1)
    x = rng.normal(3, 2, (2, 5, 7, CHANNELS))
    x[1, ..., :4] = 7 + 0.5 * rng.normal(size=(5, 7, 4))
    return tuple(array.astype(dtype) for array in (x, *(rng.normal(size=shape) for shape in shapes)))


def group_norm(x, scale, bias):
    layer = GroupNorm(
        CHANNELS, config=NormConfig("group", groups=GROUPS), numerics=Numerics(x.dtype.name, x.dtype.name)
    )
    layer.scale[...], layer.bias[...] = scale, bias
    return layer(x)


def squeeze_excitation(x, first, first_bias, second, second_bias):
    layer = SqueezeExcitation(
        CHANNELS,
        SQUEEZED,
        scale_activation="hard_sigmoid",
        numerics=Numerics(x.dtype.name, x.dtype.name),
        rngs=nnx.Rngs(0),
    )
    layer.fc1.kernel[...], layer.fc1.bias[...] = first.T[None, None], first_bias
    layer.fc2.kernel[...], layer.fc2.bias[...] = second.T[None, None], second_bias
    return layer(x)


def their_squeeze_excitation(module: Callable, x, first, first_bias, second, second_bias):
    layer = module(CHANNELS, SQUEEZED, scale_activation=torch.nn.Hardsigmoid).to(x.dtype)
    parameters = {
        "fc1.weight": first[:, :, None, None], "fc1.bias": first_bias,
        "fc2.weight": second[:, :, None, None], "fc2.bias": second_bias,
    }  # fmt: skip
    return channels_last(torch.func.functional_call(layer, parameters, channels_first(x)))


def channels_first(x: torch.Tensor) -> torch.Tensor:
    return x.movedim(-1, 1)


def channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.movedim(1, -1)


def cases(torchvision) -> list[Case]:
    both = {
        "relu": functional.relu,
        "relu6": functional.relu6,
        "leaky_relu": partial(functional.leaky_relu, negative_slope=0.1),
        "sigmoid": torch.sigmoid,
        "hard_swish": functional.hardswish,
    }
    ours = [Activation(kind, negative_slope=0.1) for kind in both]
    found = [
        Case(
            ", ".join(both),
            kinks,
            lambda x: jnp.stack([act(x) for act in ours], axis=-1),
            lambda x: torch.stack([act(x) for act in both.values()], dim=-1),
        )
    ]
    # PyTorch's gradient is times a sixth in float32, whatever it is of.
    of_a_sixth = (2e-15, 1e-7)
    found.append(
        Case("hard_sigmoid", kinks, Activation("hard_sigmoid"), functional.hardsigmoid, tolerance_float64=of_a_sixth)
    )
    found.append(
        Case(
            "group_norm",
            lambda dtype: maps(dtype, (CHANNELS,), (CHANNELS,)),
            group_norm,
            lambda x, scale, bias: channels_last(functional.group_norm(channels_first(x), GROUPS, scale, bias)),
            3,
            (2e-5, 2e-4),
            (1e-12, 1e-12),
        )
    )
    found.append(
        Case(
            "squeeze_excitation",
            lambda dtype: maps(dtype, (SQUEEZED, CHANNELS), (SQUEEZED,), (CHANNELS, SQUEEZED), (CHANNELS,)),
            squeeze_excitation,
            partial(their_squeeze_excitation, torchvision.ops.SqueezeExcitation),
            5,
            (1e-5, 1e-4),
            of_a_sixth,
        )
    )
    return found

"""Batch normalisation (trainable and frozen) and group normalisation, numerically equivalent to PyTorch's."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from jaxdet.nn.initializers import ONES, ZEROS
from jaxdet.nn.masking import inside, own_pixels
from jaxdet.nn.numerics import Numerics

NORM_KINDS = ("batch", "frozen", "group")


@dataclass(frozen=True)
class NormConfig:
    """The normalisation after a convolution.

    kind: ``"batch"``, ``"frozen"`` (torchvision's FrozenBatchNorm2d: statistics, scale and bias are constants) or
        ``"group"``.
    eps: added to the variance. PyTorch's state dicts do not contain it; torchvision's COCO_V1 detector uses 0.0.
    momentum: decay of the running statistics of batch norms per training step (1 - PyTorch's momentum).
    groups: the number of groups of group norms.
    """

    kind: str = "batch"
    eps: float = 1e-5
    momentum: float = 0.9
    groups: int = 32

    def __post_init__(self) -> None:
        if self.kind not in NORM_KINDS:
            raise ValueError(f"the norm's kind must be one of {', '.join(NORM_KINDS)}, not {self.kind!r}")
        if self.groups < 1:
            raise ValueError(f"a norm's groups must be at least 1, not {self.groups}")


def _normalize(x: Array, mean: Array, var: Array, scale: Array, bias: Array, eps: float) -> Array:
    """Normalises as PyTorch does: one multiplication and one addition per value, in at least float32."""
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    factor = _factor(var, scale, eps, dtype)
    shift = bias.astype(dtype) - mean.astype(dtype) * factor
    return (x * factor[None, None, None] + shift[None, None, None]).astype(x.dtype)


def _standardize(x: Array, mean: Array, var: Array, scale: Array, bias: Array, eps: float) -> Array:
    """Normalises by centring the values first.

    With trained statistics, gradients are sums of products with the normalised values. For values far from zero these
    would cancel in float32 if they were not centred.
    """
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    factor = _factor(var, scale, eps, dtype)
    centred = x - mean.astype(dtype)[None, None, None]
    return (centred * factor[None, None, None] + bias.astype(dtype)[None, None, None]).astype(x.dtype)


def _factor(var: Array, scale: Array, eps: float, dtype: DTypeLike) -> Array:
    return scale.astype(dtype) / jnp.sqrt(var.astype(dtype) + eps)


class FrozenBatchNorm(nnx.Module):
    """Batch normalisation with constant statistics, scale and bias (torchvision's ``FrozenBatchNorm2d``)."""

    def __init__(self, features: int, *, config: NormConfig, numerics: Numerics):
        dtype = jnp.dtype(numerics.param_dtype)
        self.scale = nnx.BatchStat(ONES(None, (features,), dtype))
        self.bias = nnx.BatchStat(ZEROS(None, (features,), dtype))
        self.mean = nnx.BatchStat(ZEROS(None, (features,), dtype))
        self.var = nnx.BatchStat(ONES(None, (features,), dtype))
        self.eps = config.eps

    def __call__(self, x: Array, extents: Array | None = None, *, train: bool = False) -> Array:
        return _normalize(x, self.mean[...], self.var[...], self.scale[...], self.bias[...], self.eps)


class BatchNorm(nnx.Module):
    """Batch normalisation (PyTorch's ``BatchNorm2d``) with statistics of exactly the pixels in the extents.

    With ``train=True`` it normalises with the mean and biased variance of the batch, and updates the running
    statistics (with the unbiased variance, as PyTorch). In a partitioned ``jax.jit`` the statistics are those of the
    global batch.
    """

    def __init__(self, features: int, *, config: NormConfig, numerics: Numerics):
        dtype = jnp.dtype(numerics.param_dtype)
        self.scale = nnx.Param(ONES(None, (features,), dtype))
        self.bias = nnx.Param(ZEROS(None, (features,), dtype))
        self.mean = nnx.BatchStat(ZEROS(None, (features,), dtype))
        self.var = nnx.BatchStat(ONES(None, (features,), dtype))
        self.count = nnx.BatchStat(ZEROS(None, (), jnp.int32))  # PyTorch's num_batches_tracked
        self.eps = config.eps
        self.momentum = config.momentum

    def __call__(self, x: Array, extents: Array | None = None, *, train: bool = False) -> Array:
        """Normalises a map.

        Args:
            x: ``[B, H, W, C]``.
            extents: ``[B, 2]`` (height, width) of the part of each map that is not padding; None: no padding.
            train: use and update batch statistics.
        """
        if train:
            return _standardize(x, *self._update(x, extents), self.scale[...], self.bias[...], self.eps)
        return _normalize(x, self.mean[...], self.var[...], self.scale[...], self.bias[...], self.eps)

    def _update(self, x: Array, extents: Array | None) -> tuple[Array, Array]:
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        batch, height, width, _ = x.shape
        valid = jnp.ones((batch, height, width, 1), bool) if extents is None else inside(extents, height, width)
        number = jnp.maximum(valid.sum(dtype=x.dtype), 1)  # no NaN from a batch without valid pixels
        x = jnp.where(valid, x, 0)
        mean = x.sum((0, 1, 2)) / number
        var = jnp.where(valid, jnp.square(x - mean[None, None, None]), 0).sum((0, 1, 2)) / number
        unbiased = var * (number / jnp.maximum(number - 1, 1))
        keep = self.momentum
        self.mean[...] = (keep * self.mean[...] + (1 - keep) * mean).astype(self.mean.dtype)
        self.var[...] = (keep * self.var[...] + (1 - keep) * unbiased).astype(self.var.dtype)
        self.count[...] = self.count[...] + 1
        return mean, var


class GroupNorm(nnx.Module):
    """Group normalisation (Wu and He 2018; PyTorch's ``GroupNorm``) with statistics of the pixels in the extents."""

    def __init__(self, features: int, *, config: NormConfig, numerics: Numerics):
        if features % config.groups:
            raise ValueError(
                f"{config.groups} groups do not divide {features} channels: choose a number of groups that does"
            )
        dtype = jnp.dtype(numerics.param_dtype)
        self.scale = nnx.Param(ONES(None, (features,), dtype))
        self.bias = nnx.Param(ZEROS(None, (features,), dtype))
        self.eps = config.eps
        self.groups = config.groups

    def __call__(self, x: Array, extents: Array | None = None, *, train: bool = False) -> Array:
        """Normalises a map.

        Args:
            x: ``[B, H, W, C]``.
            extents: ``[B, 2]`` (height, width) of the part of each map that is not padding; None: no padding.
            train: unused.
        """
        _, height, width, features = x.shape
        if extents is None:
            extents = jnp.array([[height, width]], jnp.int32)
        valid = inside(extents, height, width)
        wide = jnp.where(valid, x, 0).astype(jnp.promote_types(x.dtype, jnp.float32))
        number = own_pixels(extents, height, width).astype(wide.dtype) * (features // self.groups)

        def group_mean(values: Array) -> Array:
            """The mean over each group of ``[B, H, W, C]``, repeated for its channels: ``[B, 1, 1, C]``."""
            sums = jnp.where(valid, values, 0).sum((1, 2)).reshape(-1, self.groups, features // self.groups).sum(-1)
            return jnp.repeat(sums / number[:, None], features // self.groups, axis=1)[:, None, None]

        centred = wide - group_mean(wide)
        factor = self.scale[...].astype(wide.dtype)[None, None, None] / jnp.sqrt(
            group_mean(jnp.square(centred)) + self.eps
        )
        return (centred * factor + self.bias[...].astype(wide.dtype)[None, None, None]).astype(x.dtype)


Norm = BatchNorm | FrozenBatchNorm | GroupNorm


def make_norm(features: int, *, config: NormConfig, numerics: Numerics) -> Norm:
    """The norm of kind ``config.kind``."""
    kinds: dict[str, type[Norm]] = {"batch": BatchNorm, "frozen": FrozenBatchNorm, "group": GroupNorm}
    return kinds[config.kind](features, config=config, numerics=numerics)

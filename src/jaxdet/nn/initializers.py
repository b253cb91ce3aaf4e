"""Initial values of parameters, under PyTorch's names for them.

Each initializer is called as JAX's are, ``init(key, shape, dtype)``, and gives JAX's numbers. It is a frozen dataclass,
so that equal modules are equal and pickle. Outside of a trace, arrays of all shapes share a few compiled programs: a
detector has about forty shapes, and JAX compiles several programs for each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

Initializer = Callable[..., Array]

_SMALLEST = 4**7  # numbers in the smallest draw; each larger program draws four times as many


@dataclass(frozen=True)
class Constant:
    """The same value everywhere."""

    value: float

    def __call__(self, key: Any, shape: Sequence[int], dtype: DTypeLike = jnp.float32, **_: Any) -> Array:
        # Unlike jnp.full it compiles nothing; the view takes no memory where only shapes are asked for.
        return jax.device_put(np.broadcast_to(np.asarray(self.value, dtype), tuple(shape)))


@dataclass(frozen=True)
class Normal:
    """Normal numbers of mean 0."""

    stddev: float

    def __call__(self, key: Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, **_: Any) -> Array:
        return _draw("normal", key, shape, dtype, self.stddev)


@dataclass(frozen=True)
class Uniform:
    """Uniform numbers between ``-bound`` and ``bound``."""

    bound: float

    def __call__(self, key: Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, **_: Any) -> Array:
        return _draw("uniform", key, shape, dtype, self.bound)


@dataclass(frozen=True)
class VarianceScaling:
    """Numbers of mean 0 and variance ``scale / fan`` (He et al. 2015), of kernels ``[..., in, out]``.

    mode: ``"fan_in"`` or ``"fan_out"``: inputs or outputs times the kernel's area.
    distribution: ``"normal"`` or ``"uniform"``.
    """

    scale: float
    mode: str
    distribution: str

    def __call__(self, key: Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, **_: Any) -> Array:
        area = math.prod(shape[:-2])
        fan = area * (shape[-2] if self.mode == "fan_in" else shape[-1])
        variance = self.scale / max(fan, 1)
        init = Normal(math.sqrt(variance)) if self.distribution == "normal" else Uniform(math.sqrt(3 * variance))
        return init(key, shape, dtype)


ZEROS = Constant(0.0)
ONES = Constant(1.0)
KAIMING_NORMAL_FAN_OUT = VarianceScaling(2.0, "fan_out", "normal")  # kaiming_normal_(mode="fan_out")
KAIMING_UNIFORM = VarianceScaling(1.0, "fan_in", "uniform")  # kaiming_uniform_(a=1)
TORCH_DEFAULT = VarianceScaling(1 / 3, "fan_in", "uniform")  # of the kernels of Conv2d and Linear


def torch_default_bias(fan_in: int) -> Uniform:
    """PyTorch's default for the bias of a Conv2d or Linear with so many inputs to an output."""
    return Uniform(1 / math.sqrt(fan_in))


def _draw(distribution: str, key: Array, shape: Sequence[int], dtype: DTypeLike, factor: float) -> Array:
    count, dtype = math.prod(shape), jnp.dtype(dtype)
    if isinstance(key, jax.core.Tracer) or not _counts(key):
        return _numbers(distribution, count, dtype, key, factor).reshape(shape)
    drawn = _SMALLEST
    while drawn < count:
        drawn *= 4
    # The first numbers of a longer draw are those of a shorter one; the copy lets go of the others.
    numbers = np.asarray(_numbers(distribution, drawn, dtype, key, factor))[:count].copy()
    return jax.device_put(numbers.reshape(shape))


def _counts(key: Array) -> bool:
    """Whether the number at a position depends on the key and the position alone, not on how many are drawn."""
    partitionable = jax.config.jax_threefry_partitionable  # type: ignore[attr-defined]
    return partitionable and str(jax.random.key_impl(key)) == "threefry2x32"


@partial(jax.jit, static_argnums=(0, 1, 2))
def _numbers(distribution: str, count: int, dtype: np.dtype, key: Array, factor: float) -> Array:
    scale = jnp.asarray(factor, dtype)
    if distribution == "normal":
        return jax.random.normal(key, (count,), dtype) * scale
    return jax.random.uniform(key, (count,), dtype, -1.0) * scale

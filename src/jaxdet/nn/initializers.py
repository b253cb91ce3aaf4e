"""Parameter initializers, with PyTorch's names.

Initializers have JAX's signature, ``init(key, shape, dtype)``, and draw the same numbers as JAX's. They are frozen
dataclasses, so that modules compare equal and can be pickled. Outside of a trace, arrays of all shapes share a few
compiled programs: a detector has about forty shapes, and JAX compiles several programs for each.
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

_SMALLEST = 4**7  # numbers drawn by the smallest program; each larger program draws four times as many


@dataclass(frozen=True)
class Constant:
    """A constant value."""

    value: float

    def __call__(self, key: Any, shape: Sequence[int], dtype: DTypeLike = jnp.float32, **_: Any) -> Array:
        # Unlike jnp.full, this compiles nothing; the view takes no memory if only shapes are needed.
        return jax.device_put(np.broadcast_to(np.asarray(self.value, dtype), tuple(shape)))


@dataclass(frozen=True)
class Normal:
    """Normal distribution with mean 0."""

    stddev: float

    def __call__(self, key: Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, **_: Any) -> Array:
        return _draw("normal", key, shape, dtype, self.stddev)


@dataclass(frozen=True)
class Uniform:
    """Uniform distribution between ``-bound`` and ``bound``."""

    bound: float

    def __call__(self, key: Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, **_: Any) -> Array:
        return _draw("uniform", key, shape, dtype, self.bound)


@dataclass(frozen=True)
class VarianceScaling:
    """A distribution with mean 0 and variance ``scale / fan`` (He et al. 2015), for kernels ``[..., in, out]``.

    mode: ``"fan_in"`` or ``"fan_out"``: number of inputs or outputs times the area of the kernel.
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
TORCH_DEFAULT = VarianceScaling(1 / 3, "fan_in", "uniform")  # default for the weights of Conv2d and Linear


def torch_default_bias(fan_in: int) -> Uniform:
    """PyTorch's default for the bias of a Conv2d or Linear with ``fan_in`` inputs per output."""
    return Uniform(1 / math.sqrt(fan_in))


def _draw(distribution: str, key: Array, shape: Sequence[int], dtype: DTypeLike, factor: float) -> Array:
    count, dtype = math.prod(shape), jnp.dtype(dtype)
    if isinstance(key, jax.core.Tracer) or not _is_prefix_stable(key):
        return _numbers(distribution, count, dtype, key, factor).reshape(shape)
    drawn = _SMALLEST
    while drawn < count:
        drawn *= 4
    # A longer draw begins with the numbers of a shorter one. The copy frees the surplus.
    numbers = np.asarray(_numbers(distribution, drawn, dtype, key, factor))[:count].copy()
    return jax.device_put(numbers.reshape(shape))


def _is_prefix_stable(key: Array) -> bool:
    """Whether the number at a position depends only on the key and the position, not on how many are drawn."""
    partitionable = jax.config.jax_threefry_partitionable  # type: ignore[attr-defined]
    return partitionable and str(jax.random.key_impl(key)) == "threefry2x32"


@partial(jax.jit, static_argnums=(0, 1, 2))
def _numbers(distribution: str, count: int, dtype: np.dtype, key: Array, factor: float) -> Array:
    scale = jnp.asarray(factor, dtype)
    if distribution == "normal":
        return jax.random.normal(key, (count,), dtype) * scale
    return jax.random.uniform(key, (count,), dtype, -1.0) * scale

"""Initial values: JAX's numbers, in and outside of a trace, by few programs."""

from __future__ import annotations

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdet.nn import KAIMING_NORMAL_FAN_OUT, KAIMING_UNIFORM, TORCH_DEFAULT, Normal
from jaxdet.nn import initializers as ours

PAIRS = {
    "fan_out": (KAIMING_NORMAL_FAN_OUT, nnx.initializers.variance_scaling(2.0, "fan_out", "normal")),
    "kaiming": (KAIMING_UNIFORM, nnx.initializers.variance_scaling(1.0, "fan_in", "uniform")),
    "torch": (TORCH_DEFAULT, nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")),
    "normal": (Normal(0.01), nnx.initializers.normal(0.01)),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("shape", [(3, 3, 5, 7), (33, 511), (1, 1, 8, 1), (40, 700)])
def test_the_numbers_are_jaxs(name, shape):
    init, reference = PAIRS[name]
    key = jax.random.key(7)
    np.testing.assert_allclose(init(key, shape), reference(key, shape), rtol=2e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_trace_gives_the_same_numbers(dtype):
    key = jax.random.key(3)
    for init in (TORCH_DEFAULT, Normal(2.0)):
        alone, traced = init(key, (3, 5, 7), dtype), jax.jit(lambda key, init=init: init(key, (3, 5, 7), dtype))(key)
        assert alone.dtype == traced.dtype == dtype
        np.testing.assert_allclose(alone.astype(np.float32), traced.astype(np.float32), rtol=1e-6)


@pytest.mark.parametrize("implementation", ["rbg", "raw"])
def test_other_keys_draw_as_in_a_trace(implementation):
    key = jax.random.PRNGKey(5) if implementation == "raw" else jax.random.key(5, impl=implementation)
    np.testing.assert_allclose(Normal(1.0)(key, (6, 9)), jax.jit(lambda key: Normal(1.0)(key, (6, 9)))(key), rtol=1e-6)


def test_bias_has_pytorchs_bound():
    values = np.abs(ours.torch_default_bias(16)(jax.random.key(0), (4000,)))
    assert 0.2499 < values.max() <= 0.25


def test_many_shapes_share_a_program():
    before = ours._numbers._cache_size()
    for width in range(3, 20):
        Normal(0.5)(jax.random.key(width), (3, 3, width, 2 * width), jnp.float16)
    assert ours._numbers._cache_size() == before + 1


def test_they_are_values():
    for init in (KAIMING_NORMAL_FAN_OUT, Normal(0.1), ours.ZEROS, ours.torch_default_bias(3)):
        assert pickle.loads(pickle.dumps(init)) == init

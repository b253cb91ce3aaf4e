"""Context modules by their structure and their indifference to padding."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdet.necks import ContextConfig, make_context
from jaxdet.nn import DeformConv, DeformConvNorm, NormConfig, Upscale

CHANNELS = 8


def _drawn(module, seed=0):
    """The module with random numbers everywhere, spread so that no branch dies out."""
    rng = np.random.default_rng(seed)
    graphdef, state = nnx.split(module)

    def draw(path, variable):
        if path[-1] == "count":
            return variable
        if path[-1] in ("scale", "var"):
            return variable.replace(jnp.asarray(rng.uniform(0.5, 1.5, variable.shape), jnp.float32))
        width = np.prod(variable.shape[:-1]) if path[-1] == "kernel" else 4
        return variable.replace(jnp.asarray(rng.normal(0, width**-0.5, variable.shape), jnp.float32))

    return nnx.merge(graphdef, nnx.map_state(draw, state))


def _context(kind, default_filter=False):
    abstract = nnx.eval_shape(lambda: make_context(ContextConfig(kind, default_filter), CHANNELS, 1, rngs=nnx.Rngs(0)))
    return _drawn(abstract)[0]


@pytest.mark.parametrize("kind", ["ssh", "cpm", "deform_ssh"])
def test_what_lies_beyond_the_extent_changes_nothing(kind):
    module = _context(kind)
    graphdef, state = nnx.split(module)
    run = jax.jit(lambda state, x, extents: nnx.merge(graphdef, state)(x, extents))
    x = np.random.default_rng(0).normal(size=(1, 6, 9, CHANNELS)).astype(np.float32)
    larger = np.full((2, 10, 12, CHANNELS), np.nan, np.float32)
    larger[0, :6, :9], larger[1] = x[0], 1.0
    alone = run(state, x, None)
    with_mate = run(state, larger, jnp.array([[6, 9], [10, 12]]))
    np.testing.assert_allclose(with_mate[0, :6, :9], alone[0], atol=1e-5)
    assert np.abs(alone).max() > 0.1 and np.asarray(alone).min() == 0  # ReLU comes last


@pytest.mark.parametrize("default_filter, sides", [(True, (3, 3, 3, 3)), (False, (5, 5, 7, 7))])
def test_ssh_splits_its_channels_and_has_large_or_stacked_filters(default_filter, sides):
    module = _context("ssh", default_filter)
    layers = (module.conv5_1, module.conv5_2, module.conv7_2, module.conv7_3)
    assert tuple(layer.conv.kernel.shape[0] for layer in layers) == sides
    assert [layer.conv.kernel.shape[3] for layer in (module.conv3, *layers)] == [4, 2, 2, 2, 2]
    assert module.conv5_1.act.negative_slope == 0.1 and module.conv5_2.act is None


@pytest.mark.parametrize("channels, slope", [(64, 0.1), (68, 0.0)])
def test_the_slope_of_an_ssh_follows_its_width(channels, slope):
    (module,) = nnx.eval_shape(lambda: make_context(ContextConfig("ssh"), channels, 1, rngs=nnx.Rngs(0)))
    assert module.conv5_1.act.negative_slope == module.conv7_2.act.negative_slope == slope


def test_every_ssh_branch_sees_as_far_as_its_filters_reach():
    """One pixel changes: 1, 4 and 8 pixels away for 3x3, two 5x5, and a 5x5 with two 7x7."""
    module = _context("ssh")
    x = np.zeros((1, 25, 25, CHANNELS), np.float32)
    changed = x.copy()
    changed[0, 12, 12] = 5.0
    graphdef, state = nnx.split(module)
    run = jax.jit(lambda state, x: nnx.merge(graphdef, state)(x))
    moved = np.asarray(run(state, changed) != run(state, x))[0]  # [25, 25, C]
    for channels, reach in ((slice(0, 4), 1), (slice(4, 6), 4), (slice(6, 8), 8)):
        rows = np.flatnonzero(moved[:, :, channels].any((1, 2)))
        assert (rows.min(), rows.max()) == (12 - reach, 12 + reach), channels


def test_unmoved_and_unweighted_a_deformable_convolution_is_a_plain_one():
    conv = DeformConv(3, 5, rngs=nnx.Rngs(0))
    assert not conv.offset.kernel[...].any() and conv.offset.bias[...].any()  # as the original starts
    conv.offset.bias[...] = jnp.zeros(18)
    conv.modulation.bias[...] = jnp.full(9, 40.0)  # whose sigmoid is 1
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 5, 6, 3)), jnp.float32)
    plain = jax.lax.conv_general_dilated(
        x, conv.kernel[...], (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(conv(x), plain, atol=1e-5)


def test_offsets_are_rows_of_all_taps_then_columns():
    conv = DeformConv(2, 3, rngs=nnx.Rngs(0))
    conv.offset.bias[...] = jnp.array([1.0] * 9 + [0.0] * 9)  # every tap a row further down
    conv.modulation.bias[...] = jnp.full(9, 40.0)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 6, 5, 2)), jnp.float32)
    plain = jax.lax.conv_general_dilated(
        x, conv.kernel[...], (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(conv(x)[:, :4], plain[:, 1:5], atol=1e-5)


def test_statistics_after_a_deformable_convolution_do_not_see_padding():
    first, second = (DeformConvNorm(2, 3, norm=NormConfig(), rngs=nnx.Rngs(0)) for _ in range(2))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 5, 2)), jnp.float32)
    first(x, train=True)
    second(jnp.full((1, 8, 8, 2), jnp.nan).at[:, :4, :5].set(x), jnp.array([[4, 5]]), train=True)
    np.testing.assert_allclose(second.norm.mean[...], first.norm.mean[...], atol=1e-6)
    np.testing.assert_allclose(second.norm.var[...], first.norm.var[...], atol=1e-6)


def test_an_upscaled_map_ends_at_twice_its_extent():
    layer = Upscale(4, rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=(1, 3, 4, 4)).astype(np.float32)
    larger = np.full((1, 5, 7, 4), np.nan, np.float32)
    larger[:, :3, :4] = x
    found = layer(jnp.asarray(larger), jnp.array([[3, 4]]))
    assert found.shape == (1, 10, 14, 4)
    np.testing.assert_allclose(found[:, :6, :8], layer(jnp.asarray(x)), atol=1e-6)


def test_unknown_modules_and_odd_widths_are_refused():
    with pytest.raises(ValueError, match=r"ssh, cpm, deform_ssh, not 'fpn'"):
        ContextConfig("fpn")
    with pytest.raises(ValueError, match="a multiple of 4 channels, got"):
        make_context(ContextConfig("ssh"), 6, 1, rngs=nnx.Rngs(0))
    assert make_context(ContextConfig(), 8, 4, rngs=nnx.Rngs(0)) is None

"""Adaptive, position-sensitive and max pooling of regions: by hand, padding, extents and levels."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.ops import multiscale_roi_align, ps_roi_align, ps_roi_pool, roi_align, roi_pool

OPERATORS = {
    "roi_align": partial(roi_align, output_size=2, sampling_ratio=-1),
    "roi_pool": partial(roi_pool, output_size=2),
    "ps_roi_align": partial(ps_roi_align, output_size=2),
    "ps_roi_pool": partial(ps_roi_pool, output_size=2),
}
BOXES = np.float32([[0, 0, 3, 2], [1, 1, 6, 4], [2, 0, 4, 4]])


def test_by_hand():
    ramp = jnp.arange(24.0).reshape(4, 6, 1)
    # Rounded ends 1 and 4 hold rows 1 to 4, of which the map has three: bins of rows 1, 2 and 3, and of columns 2, 3
    # and 4, 5.
    run = jax.jit(partial(roi_pool, output_size=2))
    np.testing.assert_array_equal(run(ramp, jnp.array([[2.0, 1, 5, 4]]))[0, ..., 0], [[15, 17], [21, 23]])
    # An area of a thousand pixels is the mean of the map's cells between the samples that fall on it.
    run = jax.jit(partial(roi_align, output_size=1, sampling_ratio=-1))
    mean = run(jnp.ones((4, 6, 1)), jnp.array([[-500.0, 0, 500, 4]]))
    np.testing.assert_allclose(mean, [[[[0.007]]]], rtol=1e-5)  # samples at -0.5, 0.5, ..., 5.5
    channels = jnp.arange(4.0)[None, None] + jnp.zeros((5, 5, 4))
    for operator in (ps_roi_align, ps_roi_pool):
        run = jax.jit(partial(operator, output_size=2))
        np.testing.assert_allclose(run(channels, jnp.array([[1.0, 1, 3, 3]]))[0, ..., 0], [[0, 1], [2, 3]])


@pytest.mark.parametrize("name", OPERATORS)
def test_neither_padding_nor_the_canvas_changes_anything(name):
    operator = OPERATORS[name]
    map_ = np.random.default_rng(0).normal(size=(4, 6, 4)).astype(np.float32)
    canvas = np.full((7, 9, 4), np.nan, np.float32)
    canvas[:4, :6] = map_
    boxes = np.concatenate([BOXES, np.full((1, 4), np.nan), np.full((1, 4), np.inf), BOXES[:1]]).astype(np.float32)
    valid = np.array([True, True, True, True, False, False])

    @jax.jit
    def run(map_, boxes, **options):
        pooled, pull = jax.vjp(lambda map_: operator(map_, boxes, **options), map_)
        return pooled, pull(jnp.where(jnp.arange(pooled.shape[0])[:, None, None, None] < 3, 1.0, jnp.sin(pooled) + 1))[
            0
        ]

    expected, expected_gradient = run(map_, BOXES)
    pooled, gradient = run(canvas, boxes, valid=valid, extent=np.array([4, 6]))
    np.testing.assert_allclose(pooled[:3], expected, atol=1e-6)
    np.testing.assert_allclose(gradient[:4, :6], expected_gradient, atol=1e-6)
    assert np.abs(expected_gradient).max() > 0.1
    for array in (pooled[3:], gradient[4:], gradient[:, 6:]):
        assert not np.asarray(array).any()


@pytest.mark.parametrize("name", ["roi_align", "roi_pool", "ps_roi_align"])
def test_many_regions_go_in_turns(name, monkeypatch):
    map_, boxes = jnp.ones((4, 6, 4)).at[1].set(3), jnp.asarray(BOXES)
    expected = jax.jit(OPERATORS[name])(map_, boxes)
    monkeypatch.setattr("jaxdet.ops.map_regions._NUMBERS_PER_STEP", 100)
    np.testing.assert_allclose(jax.jit(partial(OPERATORS[name]))(map_, boxes), expected, atol=1e-6)


@pytest.mark.parametrize("name", OPERATORS)
def test_no_regions(name):
    shape = jax.eval_shape(OPERATORS[name], jnp.ones((4, 6, 4)), jnp.zeros((0, 4))).shape
    assert shape == (0, 2, 2, 1 if name.startswith("ps") else 4)


def test_adaptive_sampling_takes_each_region_from_its_level():
    rng = np.random.default_rng(1)
    maps = [jnp.asarray(rng.normal(size=shape), jnp.bfloat16) for shape in ((8, 8, 2), (4, 4, 2))]
    levels = jnp.array([1, 0, 1])
    pooled = jax.jit(lambda maps: multiscale_roi_align(maps, BOXES, levels, 2, (1.0, 0.5), -1))(maps)
    assert pooled.dtype == jnp.bfloat16
    alone = [jax.jit(lambda m, s=s: roi_align(m, BOXES, 2, s, -1))(m) for m, s in zip(maps, (1.0, 0.5), strict=True)]
    for region, level in enumerate(levels):
        np.testing.assert_array_equal(pooled[region], alone[level][region])


def test_gradients_of_bfloat16_are_summed_in_float32():
    boxes = jnp.tile(jnp.array([[0.0, 0, 1, 1]]), (300, 1))  # bfloat16 cannot count to 300
    for operator in (partial(roi_pool, output_size=1), partial(roi_align, output_size=1, sampling_ratio=-1)):
        gradient = jax.grad(lambda x, f=operator: f(x, boxes).astype(jnp.float32).sum())(
            jnp.ones((1, 1, 1), jnp.bfloat16)
        )
        assert gradient.dtype == jnp.bfloat16 and float(gradient[0, 0, 0]) == 300


def test_refusals():
    with pytest.raises(ValueError, match="the number of channels, 3, must be a multiple of the 4 bins"):
        ps_roi_align(jnp.ones((4, 4, 3)), BOXES, 2)
    with pytest.raises(ValueError, match="use vmap"):
        roi_pool(jnp.ones((1, 4, 4, 3)), BOXES, 2)
    with pytest.raises(ValueError, match="output_size"):
        ps_roi_pool(jnp.ones((4, 4, 4)), BOXES, (2, 0))

"""RoIAlign: hand-computed values, padding, dtypes, and which algorithm each platform gets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.ops import multiscale_roi_align, roi_align
from jaxdet.ops.roi.gather import scatter_in_chunks
from jaxdet.ops.roi.samples import box_samples
from jaxdet.ops.roi.window import pool_by_window, window_gradient

NAN = np.float32(np.nan)
SHAPES, SCALES = [(36, 40), (18, 20)], (1 / 4, 1 / 8)


@pytest.fixture(params=["gather", "window"])
def algorithm(request, monkeypatch):
    """Runs the test with the CPU's and, on the CPU, with the TPU's algorithm."""
    if request.param == "window":
        monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, tpu, **others: tpu(*args))
    return request.param


def pyramid(channels=3):
    rng = np.random.default_rng(0)
    return [rng.standard_normal((*shape, channels)).astype(np.float32) for shape in SHAPES]


def regions(count=20):
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 100, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(3, 60, (count, 2))], axis=1).astype(np.float32)
    levels = rng.integers(0, 2, count).astype(np.int32)
    boxes[1], levels[1] = [0, 30, 159, 50], 0  # too long for a window on a TPU
    return boxes, levels


def pool(maps, boxes, levels, **options):
    return multiscale_roi_align(maps, boxes, levels, 7, SCALES, 2, **options)


def test_linear_map_by_hand(algorithm):
    # Bilinear interpolation reproduces a ramp; a bin's value is the ramp at its centre.
    rows, columns = jnp.meshgrid(jnp.arange(10.0), jnp.arange(12.0), indexing="ij")
    features = jnp.stack([rows, columns], axis=-1)
    run = jax.jit(roi_align, static_argnums=(2, 3, 4, 5))
    pooled = run(features, jnp.array([[4.0, 2, 12, 10]]), 2, 0.5, 2, False)
    np.testing.assert_allclose(pooled[0, :, :, 0], [[2, 2], [4, 4]], atol=1e-6)
    np.testing.assert_allclose(pooled[0, :, :, 1], [[3, 5], [3, 5]], atol=1e-6)
    shifted = run(features, jnp.array([[4.0, 2, 12, 10]]), 2, 0.5, 2, True)
    np.testing.assert_allclose(shifted, pooled - 0.5, atol=1e-6)


def test_window_function_equals_the_gather():
    features = np.repeat(pyramid()[0], 50, axis=-1) * np.linspace(0.5, 1, 150, dtype=np.float32)  # two passes backward
    # Twenty are too long for a window and go through the gather, which takes two turns.
    long = np.array([[0, 0, 159, 20], [5, 0, 20, 143]] * 10) + np.arange(20)[:, None] / 7
    limit = [[0, 0, 136, 20]]  # of 34 cells, whose samples read 33: one too many
    boxes = np.concatenate([regions(60)[0], long, limit]).astype(np.float32)
    count = len(boxes)
    y, x = box_samples(
        boxes=jnp.array(boxes),
        scales=jnp.full(count, 0.25),
        extents=jnp.tile(jnp.array(SHAPES[:1]), (count, 1)),
        valid=jnp.ones(count, bool),
        output_size=(7, 7),
        sampling_ratio=2,
        aligned=False,
    )
    origin = jnp.zeros((count, 2), jnp.int32)
    windowed = jax.jit(pool_by_window)(features, y, x, origin)
    np.testing.assert_allclose(windowed, roi_align(features, boxes, 7, 0.25), atol=2e-6)
    grad = np.random.default_rng(2).standard_normal(windowed.shape).astype(np.float32)
    summed = jax.jit(window_gradient, static_argnums=(4, 5))(grad, y, x, origin, SHAPES[0], np.dtype(np.float32))
    by_row = scatter_in_chunks(grad, y, x, origin[:, 0], jnp.full(count, SHAPES[0][1]), SHAPES[0][0] * SHAPES[0][1])
    np.testing.assert_allclose(summed, by_row.reshape(summed.shape), atol=2e-5)


def test_samples_up_to_a_cell_outside_read_the_edge(algorithm):
    """The position is the middle of the box: -1 and 4 on four columns count, what lies further out is zero."""
    features = jnp.arange(1.0, 5.0)[None, :, None] * jnp.ones((4, 1, 1))
    boxes = jnp.array([[-2.0, 0, 0, 4], [3, 0, 5, 4], [-2.5, 0, 0, 4], [3, 0, 5.5, 4], [1, 0, 1.5, 4]])
    pooled = jax.jit(lambda boxes: roi_align(features, boxes, 1, 1.0, 1))(boxes)[:, 0, 0, 0]
    np.testing.assert_array_equal(pooled, [1, 4, 0, 0, 2.5])  # the last is made a cell wide


def test_levels_that_do_not_halve(algorithm):
    """Below the first level the others are wider than it."""
    maps = [jnp.full((*size, 1), level + 1.0) for level, size in enumerate(((8, 8), (7, 6), (5, 6)))]
    levels = jnp.array([2, 0, 1])
    run = jax.jit(lambda boxes: multiscale_roi_align(maps, boxes, levels, 2, (1.0,) * 3, 2))
    pooled = run(jnp.array([[0.0, 0, 5, 4], [2, 2, 7, 7], [1, 1, 6, 6]]))
    np.testing.assert_allclose(
        pooled[..., 0], np.broadcast_to(np.array([3, 1, 2])[:, None, None], (3, 2, 2)), rtol=1e-6
    )


def test_padding_changes_nothing(algorithm):
    maps, (boxes, levels) = pyramid(), regions()
    valid = np.arange(len(boxes)) % 3 > 0
    extents = jnp.array([[30, 33], [15, 17]])
    dirty_maps = [np.full_like(map_, NAN) for map_ in maps]
    for clean, dirty, (height, width) in zip(maps, dirty_maps, extents.tolist(), strict=True):
        dirty[:height, :width] = clean[:height, :width]

    @jax.jit
    def run(maps, boxes, levels, valid):
        pooled, pull = jax.vjp(lambda m: pool(m, boxes, levels, valid=valid, extents=extents), maps)
        return pooled, pull(jnp.where(valid[:, None, None, None], 1, NAN) * jnp.ones_like(pooled))[0]

    expected = run(maps, np.where(valid[:, None], boxes, 0), np.where(valid, levels, 0), valid)
    pooled = run(dirty_maps, np.where(valid[:, None], boxes, NAN), np.where(valid, levels, 99), valid)
    for ours, clean in zip(jax.tree.leaves(pooled), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(ours, clean)
        assert np.isfinite(ours).all()
    assert not np.asarray(pooled[0])[~valid].any() and np.asarray(pooled[0])[valid].any()


def test_an_image_of_padding_alone(algorithm):
    maps, (boxes, levels) = [np.full_like(map_, NAN) for map_ in pyramid()], regions()
    none, nothing = jnp.zeros(len(boxes), bool), jnp.zeros((2, 2), jnp.int32)

    @jax.jit
    def run(maps):
        pooled, pull = jax.vjp(lambda m: pool(m, boxes, levels, valid=none, extents=nothing), maps)
        return pooled, pull(pooled)[0]

    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(run(maps)))


def test_batch_by_vmap(algorithm):
    maps, (boxes, levels) = pyramid(), regions()
    stacked = [jnp.stack([map_, map_[::-1]]) for map_ in maps]
    both = jax.jit(jax.vmap(pool))(stacked, jnp.stack([boxes, boxes + 9]), jnp.stack([levels, 1 - levels]))
    one = jax.jit(pool)
    np.testing.assert_allclose(both[0], one(maps, boxes, levels), atol=2e-6)
    np.testing.assert_allclose(both[1], one([m[::-1] for m in maps], boxes + 9, 1 - levels), atol=2e-6)


def test_bfloat16_is_summed_in_float32(algorithm):
    features = jnp.asarray(pyramid()[0], jnp.bfloat16)
    boxes = np.tile(np.float32([[20, 20, 60, 60]]), (400, 1))

    @jax.jit
    def run(features):
        pooled, pull = jax.vjp(lambda f: roi_align(f, boxes, 7, 0.25), features)
        return pooled, pull(jnp.ones_like(pooled))[0]

    pooled, gradient = run(features)
    exact, exact_gradient = run(features.astype(jnp.float32))
    assert pooled.dtype == gradient.dtype == jnp.bfloat16
    np.testing.assert_array_equal(pooled, exact.astype(jnp.bfloat16))
    # 400 equal terms: a bfloat16 sum stops growing at 256 of them.
    np.testing.assert_allclose(gradient.astype(jnp.float32), exact_gradient, rtol=2**-8)


def test_boxes_are_detached():
    gradient = jax.jit(jax.grad(lambda b: roi_align(pyramid()[0], b, 7, 0.25).sum()))(jnp.array([[4.0, 4, 40, 40]]))
    assert not gradient.any()


pool_small = jax.jit(lambda features, boxes: roi_align(features, boxes, 3))


@pytest.mark.parametrize("box", [[0, 0, np.inf, 9], [-np.inf, 0, 5, 9], [NAN, 0, 5, 9], [0, 0, 5, NAN]])
def test_samples_nowhere_are_zero(box):
    assert not pool_small(jnp.ones((9, 9, 1)), jnp.array([box], jnp.float32)).any()


@pytest.mark.parametrize("platform", ["tpu", "cpu"])
@pytest.mark.parametrize("backward", [False, True])
def test_each_platform_lowers_its_own_algorithm(platform, backward):
    maps, (boxes, levels) = pyramid(), regions(70)

    def run(maps, boxes, levels, grad):
        pooled, pull = jax.vjp(lambda m: pool(m, boxes, levels), maps)
        return pull(grad) if backward else pooled

    text = (
        jax.jit(run).trace(maps, boxes, levels, jnp.ones((70, 7, 7, 3))).lower(lowering_platforms=(platform,)).as_text()
    )
    table_rows = sum(height * width for height, width in SHAPES)
    assert (f"tensor<{table_rows}x3xf32>" in text) == (platform == "cpu")
    assert ("stablehlo.dot_general" in text) == (platform == "tpu")
    assert ("sizes = [32, 32, 3]" in text) == (platform == "tpu")
    windows = f"tensor<{8 if backward else 4}x32x32x3xf32>"  # of a turn
    assert (windows in text) == (platform == "tpu")


def test_the_tpu_takes_one_image_after_another():
    maps, (boxes, levels) = [jnp.stack([map_] * 2) for map_ in pyramid()], regions()
    traced = jax.jit(jax.vmap(pool)).trace(maps, jnp.stack([boxes] * 2), jnp.stack([levels] * 2))
    text = traced.lower(lowering_platforms=("tpu",)).as_text()
    (height, width), (below, _) = SHAPES
    assert f"tensor<{height + below}x{width}x3xf32>" in text  # the canvas of one image, which its chunks share
    assert f"tensor<2x{height + below}x{width}x3xf32>" not in text
    assert text.count("stablehlo.case") == 2  # by which JAX picks the platform; what is long goes through a loop


def test_no_regions():
    assert roi_align(jnp.ones((4, 4, 2)), jnp.zeros((0, 4)), (3, 2)).shape == (0, 3, 2, 2)


def test_errors():
    maps, (boxes, levels) = pyramid(), regions()
    with pytest.raises(ValueError, match="give one per map"):
        multiscale_roi_align(maps, boxes, levels, 7, (0.25,), 2)
    with pytest.raises(ValueError, match="use vmap"):
        roi_align(maps[0][None], boxes, 7)
    with pytest.raises(ValueError, match=r"boxes \[R, 4\]"):
        roi_align(maps[0], boxes[:, :3], 7)
    with pytest.raises(ValueError, match="output_size"):
        roi_align(maps[0], boxes, 0)

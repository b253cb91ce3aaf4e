"""RoIAlign against torchvision's native operator, forward and gradient, for each platform's algorithm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.heads import MultiScaleRoIAlign
from jaxdet.ops import multiscale_roi_align, roi_align
from torchvision_cpu import torchvision_or_skip

torchvision = torchvision_or_skip()
import torch  # noqa: E402

HEIGHT, WIDTH, CHANNELS, SCALE = 44, 56, 5, 1 / 4


@pytest.fixture(params=["gather", "window"])
def algorithm(request, monkeypatch):
    """Runs the test with the CPU's and, on the CPU, with the TPU's algorithm."""
    if request.param == "window":
        monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, tpu, **others: tpu(*args))
    return request.param


def boxes_of_every_kind():
    rng = np.random.default_rng(0)
    height, width = HEIGHT / SCALE, WIDTH / SCALE
    corner = rng.uniform(0, [width, height], (60, 2))
    usual = np.concatenate([corner, corner + rng.uniform(4, 100, (60, 2))], axis=1)
    tiny = np.concatenate([corner[:10], corner[:10] + rng.uniform(0, 2, (10, 2))], axis=1)
    inverted = usual[:10][:, [2, 3, 0, 1]]
    outside = usual[:10] + rng.choice([-1, 1], (10, 1)) * [[width, height, width, height]]
    special = [
        [0, 0, width, height],
        [-1e3, -1e3, 1e3, 1e3],  # most samples outside
        [-1e9, 5, 1e9, 9],
        [-4, -4, 20, 20],
        [-8, -8, -4, -4],  # at the last coordinate that counts, and beyond
        [width - 4, height - 4, width, height],
        [width, height, width + 4, height + 4],
        [3, 3, 3, 3],
        [0, 10, width, 14],  # longer than a window, along x
        [10, 0, 14, height],
    ]
    return np.concatenate([usual, tiny, inverted, outside, special]).astype(np.float32)


def random_map(height, width, seed=1):
    return np.random.default_rng(seed).standard_normal((height, width, CHANNELS)).astype(np.float32)


def with_torchvision(features, boxes, size, scale, ratio, aligned, cotangent):
    """Pooled [R, PH, PW, C] and the gradient [H, W, C]."""
    tensor = torch.from_numpy(features.transpose(2, 0, 1)[None].copy()).requires_grad_()
    pooled = torchvision.ops.roi_align(tensor, [torch.from_numpy(boxes)], size, scale, ratio, aligned)
    pooled.backward(torch.from_numpy(cotangent.transpose(0, 3, 1, 2).copy()))
    return pooled.detach().numpy().transpose(0, 2, 3, 1), tensor.grad[0].numpy().transpose(1, 2, 0)


@pytest.mark.parametrize(
    ("size", "ratio", "aligned"),
    [(7, 2, False), (7, 2, True), ((3, 5), 1, False), (7, 3, False), ((5, 2), 3, True), ((4, 4), 1, True)],
)
def test_forward_and_gradient(algorithm, size, ratio, aligned):
    if algorithm == "window" and ratio == 1:
        pytest.skip("the ratio is in the samples, which the algorithms share")
    features, boxes = random_map(HEIGHT, WIDTH), boxes_of_every_kind()
    pooled_size = (size, size) if isinstance(size, int) else size
    cotangent = np.random.default_rng(2).standard_normal((len(boxes), *pooled_size, CHANNELS)).astype(np.float32)

    @jax.jit
    def run(features, boxes, cotangent):
        pooled, pull = jax.vjp(lambda f: roi_align(f, boxes, size, SCALE, ratio, aligned), features)
        return pooled, pull(cotangent)[0]

    pooled, gradient = run(features, boxes, cotangent)
    expected, expected_gradient = with_torchvision(features, boxes, size, SCALE, ratio, aligned, cotangent)
    np.testing.assert_allclose(pooled, expected, atol=2e-6)
    np.testing.assert_allclose(gradient, expected_gradient, atol=2e-5)  # a cell sums up to some hundred terms
    assert np.abs(expected).max() > 1 and np.abs(expected_gradient).max() > 3


def test_pyramid(algorithm):
    sizes, scales = [(40, 56), (20, 28), (10, 14), (5, 7)], (1 / 4, 1 / 8, 1 / 16, 1 / 32)
    maps = [random_map(*size, seed) for seed, size in enumerate(sizes)]
    boxes = boxes_of_every_kind()
    levels = np.arange(len(boxes), dtype=np.int32) % 4
    cotangent = np.random.default_rng(2).standard_normal((len(boxes), 7, 7, CHANNELS)).astype(np.float32)

    @jax.jit
    def run(maps, boxes, levels, cotangent):
        pooled, pull = jax.vjp(lambda m: multiscale_roi_align(m, boxes, levels, 7, scales, 2), maps)
        return pooled, pull(cotangent)[0]

    pooled, gradients = run(maps, boxes, levels, cotangent)
    for level in range(4):
        mine = levels == level
        expected = with_torchvision(maps[level], boxes[mine], 7, scales[level], 2, False, cotangent[mine])
        np.testing.assert_allclose(pooled[mine], expected[0], atol=2e-6)
        np.testing.assert_allclose(gradients[level], expected[1], atol=1e-4)


def test_extent_is_a_smaller_map(algorithm):
    """Cutting the map and naming an extent are the same, whatever lies beyond it."""
    features, boxes = random_map(HEIGHT, WIDTH), boxes_of_every_kind()
    extent = (30, 41)
    cotangent = np.ones((len(boxes), 7, 7, CHANNELS), np.float32)
    cut = np.ascontiguousarray(features[: extent[0], : extent[1]])
    expected, expected_gradient = with_torchvision(cut, boxes, 7, SCALE, 2, False, cotangent)
    features[extent[0] :], features[:, extent[1] :] = np.nan, np.nan

    @jax.jit
    def run(features, boxes, extent, cotangent):
        pooled, pull = jax.vjp(lambda f: roi_align(f, boxes, 7, SCALE, extent=extent), features)
        return pooled, pull(cotangent)[0]

    pooled, gradient = run(features, boxes, jnp.array(extent), cotangent)
    np.testing.assert_allclose(pooled, expected, atol=2e-6)
    np.testing.assert_allclose(gradient[: extent[0], : extent[1]], expected_gradient, atol=1e-4)
    assert not np.asarray(gradient)[extent[0] :].any() and not np.asarray(gradient)[:, extent[1] :].any()


def test_coordinates_are_rounded_as_there():
    """On a large map an ulp of a coordinate shows: the sample positions have to agree exactly."""
    rng = np.random.default_rng(3)
    ramp = np.arange(400, dtype=np.float32)
    features = np.stack([np.broadcast_to(ramp, (300, 400)), np.broadcast_to(ramp[:300, None], (300, 400))], axis=-1)
    features = (features % 2 * 1000).astype(np.float32)  # steep everywhere
    corner = rng.uniform(0, 900, (200, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(10, 300, (200, 2))], axis=1).astype(np.float32)
    expected, _ = with_torchvision(features, boxes, 7, SCALE, 2, False, np.zeros((200, 7, 7, 2), np.float32))
    pooled = jax.jit(lambda f, b: roi_align(f, b, 7, SCALE))(features, boxes)
    np.testing.assert_allclose(pooled, expected, atol=2e-4)  # one ulp of position would be 0.01


@pytest.mark.parametrize("canonical", [{}, {"canonical_scale": 64, "canonical_level": 3}])
def test_multi_scale_roi_align(canonical):
    """Named maps, of which one is not pooled from, two images, padding between the boxes."""
    names, strides = ("0", "1", "2"), {"0": 4, "1": 8, "2": 16, "pool": 32}
    rng = np.random.default_rng(4)
    maps = {n: rng.normal(size=(2, 256 // s, 320 // s, 3)).astype(np.float32) for n, s in strides.items()}
    corner = rng.uniform(0, 100, (2, 12, 2))
    boxes = np.concatenate([corner, corner + np.geomspace(5, 150, 12)[None, :, None]], axis=-1).astype(np.float32)
    valid = np.ones((2, 12), bool)
    valid[1, 3:5], boxes[1, 3:5] = False, np.nan
    tensors = {name: torch.from_numpy(map_.transpose(0, 3, 1, 2).copy()) for name, map_ in maps.items()}
    theirs = torchvision.ops.MultiScaleRoIAlign(names, (3, 2), 2, **canonical)
    given = [torch.from_numpy(b[v]) for b, v in zip(boxes, valid, strict=True)]
    expected = theirs(tensors, given, [(256, 320)] * 2).numpy().transpose(0, 2, 3, 1)
    module = MultiScaleRoIAlign(names, (3, 2), 2, **canonical)
    pooled = np.asarray(jax.jit(lambda m, b, v: module(m, b, v, strides))(maps, boxes, valid))
    np.testing.assert_allclose(pooled[valid], expected, atol=2e-6)
    assert not pooled[~valid].any()
    with pytest.raises(ValueError, match="2 missing in maps"):
        module({"0": maps["0"], "1": maps["1"]}, boxes, valid, strides)

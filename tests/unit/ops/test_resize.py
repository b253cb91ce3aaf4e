"""Resizing against PyTorch, which defines it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.ops import resize_bilinear, resize_nearest, resized_size
from jaxdet.ops.resize import nearest_source

SIZES = [
    ((48, 64), (80, 107)),
    ((50, 33), (17, 90)),
    ((7, 9), (7, 30)),
    ((5, 5), (5, 5)),
    ((1, 3), (4, 1)),
    ((90, 70), (30, 20)),
]


def interpolate(image, **options):
    torch = pytest.importorskip("torch")
    planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    return torch.nn.functional.interpolate(planes, **options)[0].numpy().transpose(1, 2, 0)


def test_bilinear_by_hand():
    image = np.float32([[[0.0], [4.0]]])
    np.testing.assert_array_equal(resize_bilinear(image, (1, 4))[0, :, 0], [0, 1, 3, 4])


@pytest.mark.parametrize(("source", "target"), SIZES)
def test_bilinear_equals_torch(source, target):
    image = np.random.default_rng(0).uniform(-2, 2, (*source, 3)).astype(np.float32)
    expected = interpolate(image, size=target, mode="bilinear", align_corners=False, antialias=False)
    np.testing.assert_allclose(resize_bilinear(image, target), expected, rtol=1e-5, atol=1e-6)


def test_bilinear_takes_integers_and_leaves_its_input():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    same = resize_bilinear(image, (2, 2))
    assert same.dtype == np.float32
    image32 = image.astype(np.float32)
    resize_bilinear(image32, (2, 2))[:] = 0
    np.testing.assert_array_equal(image32, image)


def test_bilinear_wants_three_axes():
    with pytest.raises(ValueError, match=r"\[H, W, C\]"):
        resize_bilinear(np.zeros((4, 4), np.float32), (2, 2))


@pytest.mark.parametrize(
    ("source", "target"), [*SIZES, ((13, 13), (25, 25)), ((25, 25), (13, 13)), ((10, 6), (20, 18)), ((2, 3), (82, 123))]
)
def test_nearest_equals_torch(source, target):
    image = np.random.default_rng(0).uniform(size=(*source, 2)).astype(np.float32)
    np.testing.assert_array_equal(resize_nearest(jnp.array(image), target), interpolate(image, size=target))


def test_nearest_takes_batches_and_sums_its_gradient():
    x = jnp.arange(8.0).reshape(2, 2, 2, 1)
    resized, pull = jax.vjp(lambda x: resize_nearest(x, (4, 6)), x)
    assert resized.shape == (2, 4, 6, 1)
    np.testing.assert_array_equal(pull(jnp.ones_like(resized))[0], jnp.full(x.shape, 6.0))


def test_nearest_index_for_every_length():
    torch = pytest.importorskip("torch")
    for length in range(1, 80):
        row = torch.arange(length, dtype=torch.float32)[None, None, :, None]
        for count in range(1, 80):
            expected = torch.nn.functional.interpolate(row, size=(count, 1))[0, 0, :, 0].numpy()
            np.testing.assert_array_equal(nearest_source(length, count), expected)


def transformed_size(height, width, min_size, max_size):
    """The size torchvision's own function gives, from an image without memory."""
    import torch
    from torchvision.models.detection.transform import _resize_image_and_masks

    image = torch.empty((3, height, width), device="meta")
    return tuple(_resize_image_and_masks(image, min_size, max_size, None, None)[0].shape[1:])


def compare_sizes(min_size, max_size, count):
    from torchvision_cpu import torchvision_or_skip

    torchvision_or_skip()
    for height, width in np.random.default_rng(min_size).integers(16, 2500, (count, 2)).tolist():
        size = resized_size(height, width, min_size, max_size)
        assert size == transformed_size(height, width, min_size, max_size), (height, width)


LIMITS = [(800, 1333), (320, 640), (128, 128), (600, 1000)]


@pytest.mark.parametrize(("min_size", "max_size"), LIMITS)
def test_size_equals_torchvision(min_size, max_size):
    compare_sizes(min_size, max_size, 60)


@pytest.mark.verify
@pytest.mark.parametrize(("min_size", "max_size"), LIMITS)
def test_size_equals_torchvision_for_thousands(min_size, max_size):
    compare_sizes(min_size, max_size, 3000)


def test_size_rounds_down():
    # 800 / 427 * 427 is a little less than 800 in float64.
    sizes = [min(resized_size(height, 3 * height // 2, 800, 1333)) for height in range(200, 900)]
    assert set(sizes) == {799, 800}


def test_size_of_nothing():
    with pytest.raises(ValueError, match="at least 1"):
        resized_size(0, 10, 800, 1333)

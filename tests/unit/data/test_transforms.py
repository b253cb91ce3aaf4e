"""Host transforms against values worked out by hand."""

import numpy as np
import pytest

from jaxdet.data import Example, centre_crop, horizontal_flip, preprocess, resize_boxes
from jaxdet.data.transforms import random_horizontal_flip


def _example():
    image = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)
    return Example(
        image=image, boxes=np.float32([[0, 0, 2, 1], [1, 0.5, 5, 2]]), labels=np.int32([1, 2]), image_id=3, path="a.png"
    )


def test_horizontal_flip():
    flipped = horizontal_flip(_example())
    np.testing.assert_array_equal(flipped.boxes, np.float32([[3, 0, 5, 1], [0, 0.5, 4, 2]]))
    np.testing.assert_array_equal(flipped.image[:, 0], _example().image[:, 4])
    np.testing.assert_array_equal(flipped.labels, [1, 2])
    again = horizontal_flip(flipped)
    np.testing.assert_array_equal(again.image, _example().image)
    np.testing.assert_array_equal(again.boxes, _example().boxes)


def test_random_flip_follows_its_generator():
    draws = np.random.default_rng(5).random(200)
    generator = np.random.default_rng(5)
    for draw in draws:
        flipped = random_horizontal_flip(_example(), 0.3, generator).boxes[0, 0] == 3
        assert flipped == (draw < 0.3)


def test_preprocess_without_resizing_normalises():
    image = np.zeros((4, 6, 3), np.uint8)
    image[..., 0], image[..., 1] = 255, 51
    out = preprocess(image, 4, 100, mean=(0.5, 0.1, 0.25), std=(0.5, 0.2, 0.125))
    assert out.shape == (4, 6, 3) and out.dtype == np.float32
    np.testing.assert_allclose(out[2, 3], [1.0, 0.5, -2.0], rtol=1e-6)


def test_preprocess_normalises_before_it_interpolates():
    image = np.zeros((1, 2, 3), np.uint8)
    image[0, 1] = 255
    out = preprocess(image, 2, 100, mean=(0, 0, 0), std=(1, 1, 1))  # 1 x 2 becomes 2 x 4
    np.testing.assert_allclose(out[:, :, 0], [[0, 0.25, 0.75, 1]] * 2, atol=1e-7)
    assert preprocess(np.zeros((480, 640, 3), np.uint8), 80, 133).shape == (80, 106, 3)


def test_floats_are_taken_as_values_from_0_to_1():
    image = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    np.testing.assert_allclose(preprocess(image / np.float32(255), 4, 9), preprocess(image, 4, 9), atol=1e-6)


def test_centre_crop_keeps_the_middle_of_the_resized_image():
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 30:50] = 255
    out = centre_crop(image, 40, 20, (0, 0, 0), (1, 1, 1))
    assert out.shape == (20, 20, 3) and out.dtype == np.float32 and (out == 1).all()
    assert centre_crop(image, 16, 8).shape == (8, 8, 3)


def test_preprocess_refuses_other_images():
    with pytest.raises(ValueError, match=r"expected an image \[H, W, 3\], uint8 or float, got int32"):
        preprocess(np.zeros((4, 4, 3), np.int32), 4, 4)
    with pytest.raises(ValueError, match=r"got uint8 \(4, 4\)"):
        preprocess(np.zeros((4, 4), np.uint8), 4, 4)
    with pytest.raises(ValueError, match="three numbers for mean and std"):
        preprocess(np.zeros((4, 4, 3), np.uint8), 4, 4, mean=(0.5,))


def test_resize_boxes_scales_each_axis_by_its_own_ratio():
    boxes = np.float32([[10, 20, 30, 40]])
    np.testing.assert_allclose(resize_boxes(boxes, (100, 50), (200, 25)), [[5, 40, 15, 80]])
    assert resize_boxes(np.zeros((0, 4)), (100, 50), (200, 25)).shape == (0, 4)

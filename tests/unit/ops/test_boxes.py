"""Boxes: hand-computed values, padding, and torchvision's numbers."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdet.ops import box_area, box_iou, clip_boxes, flip_boxes, large_enough, scale_boxes
from jaxdet.ops.boxes import box_coverage

NAN = np.full(4, np.nan, np.float32)


def random_boxes(seed, count):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(-20, 100, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(0, 80, (count, 2))], axis=1).astype(np.float32)


def test_area():
    boxes = jnp.array([[0, 0, 2, 3], [1, 1, 1, 5], [3, 0, 1, 4]], jnp.float32)
    np.testing.assert_array_equal(box_area(boxes), [6, 0, 0])


def test_area_of_bfloat16_is_taken_in_float32():
    area = box_area(jnp.array([[0, 0, 255, 255]], jnp.bfloat16))
    assert area.dtype == jnp.float32
    assert area[0] == 255 * 255  # 16 bits: bfloat16 has 8


def test_iou():
    first = jnp.array([[0, 0, 2, 2], [0, 0, 0, 0]], jnp.float32)
    second = jnp.array([[1, 1, 3, 3], [0, 0, 2, 2], [5, 5, 6, 6], [0, 0, 0, 0]], jnp.float32)
    np.testing.assert_array_equal(box_iou(first, second), np.float32([[1 / 7, 1, 0, 0], [0, 0, 0, 0]]))


def test_coverage_is_the_part_of_the_box_not_of_the_region():
    boxes = jnp.array([[0, 0, 2, 2], [0, 0, 0, 2], [0, 0, 8, 8]], jnp.float32)
    regions = jnp.array([[1, 0, 9, 8], [0, 0, 4, 4]], jnp.float32)
    np.testing.assert_array_equal(box_coverage(boxes, regions), np.float32([[0.5, 1], [0, 0], [7 / 8, 1 / 4]]))


def test_iou_equals_torchvision():
    from torchvision_cpu import torchvision_or_skip

    torchvision = torchvision_or_skip()
    import torch

    first, second = random_boxes(0, 150), random_boxes(1, 170)
    expected = torchvision.ops.box_iou(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    np.testing.assert_array_equal(jax.jit(box_iou)(first, second), expected)


def test_iou_keeps_nan_in_its_row_and_has_a_gradient():
    boxes = np.stack([*random_boxes(2, 3), NAN])
    iou = np.asarray(box_iou(boxes, boxes))
    assert np.isfinite(iou[:3, :3]).all()
    gradient = jax.grad(lambda b: box_iou(b, b[::-1]).sum())(jnp.zeros((2, 4)))
    assert np.isfinite(gradient).all()


def test_clip():
    boxes = jnp.array([[[-5, -6, 50, 60], [1, 2, 3, 4]]], jnp.float32)
    expected = [[[0, 0, 30, 20], [1, 2, 3, 4]]]
    np.testing.assert_array_equal(clip_boxes(boxes, (20, 30)), expected)
    np.testing.assert_array_equal(clip_boxes(boxes, jnp.array([20, 30])), expected)
    np.testing.assert_array_equal(clip_boxes(boxes, jnp.array([[[20, 30]]])), expected)  # a size an image


def test_flip_twice_is_nothing():
    boxes = jnp.array([[1, 2, 4, 8]], jnp.float32)
    flipped = flip_boxes(boxes, 10)
    np.testing.assert_array_equal(flipped, [[6, 2, 9, 8]])
    np.testing.assert_array_equal(flip_boxes(flipped, 10), boxes)


def test_every_image_has_a_width_of_its_own():
    boxes = jnp.tile(jnp.array([[1, 2, 4, 8]], jnp.float32), (2, 2, 1))
    flipped = flip_boxes(boxes, jnp.array([[10], [20]]))
    np.testing.assert_array_equal(flipped[:, :, 0], [[6, 6], [16, 16]])
    np.testing.assert_array_equal(flip_boxes(boxes[0], jnp.array([10, 20]))[:, 2], [9, 19])
    np.testing.assert_array_equal(flip_boxes(boxes, jnp.array([10, 20]))[0, :, 2], [9, 19])  # a width a box


def test_scale_is_vertical_then_horizontal():
    boxes = jnp.array([[1, 2, 3, 4]], jnp.float32)
    np.testing.assert_array_equal(scale_boxes(boxes, (10, 100)), [[100, 20, 300, 40]])
    np.testing.assert_array_equal(scale_boxes(boxes, jnp.array([10, 100])), [[100, 20, 300, 40]])


def test_large_enough_includes_the_limit_and_excludes_nan():
    boxes = jnp.stack([jnp.array([0, 0, 1, 1.0]), jnp.array([0, 0, 0.5, 2]), jnp.array([2, 0, 0, 2.0]), NAN])
    np.testing.assert_array_equal(large_enough(boxes, 1.0), [True, False, False, False])

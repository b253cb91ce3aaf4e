"""Sizes, canvases and boxes of multi-scale training and of large-scale jitter, worked out by hand."""

import numpy as np
import pytest
from data_draws import Draws
from PIL import Image

from jaxdet.data import Augmentation, BatchPlan, DataError, Example, preprocess
from jaxdet.data.batching.sizing import ScaleJitter, ShortestSide, SquareCrop
from jaxdet.models import DetectorTransform

PLAIN = {"mean": (0, 0, 0), "std": (1, 1, 1)}


def _example(height, width, boxes, ignored=()):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    boxes, ignored = (np.array(part, np.float32).reshape(-1, 4) for part in (boxes, ignored))
    return Example(
        image=image, boxes=boxes, labels=np.arange(1, len(boxes) + 1, dtype=np.int32), image_id=7, path="a.png",
        ignored=ignored,
    )  # fmt: skip


def test_each_image_draws_one_of_the_sizes():
    sizing = ShortestSide((40, 50, 80), 100)
    example = _example(50, 60, [[10, 10, 20, 30]], [[0, 0, 60, 50]])
    for draw, size in ((0.0, (40, 48)), (0.34, (50, 60)), (0.999, (80, 96))):
        pixels, placed = sizing.apply(example, (96, 96), Draws(draw), **PLAIN)
        assert pixels.shape == (*size, 3) and pixels.dtype == np.float32
        np.testing.assert_array_equal(pixels, preprocess(example.image, min(size), 100, **PLAIN))
        scale = size[0] / 50
        np.testing.assert_allclose(placed.boxes, np.array([[10, 10, 20, 30]]) * scale, rtol=1e-6)
        np.testing.assert_allclose(placed.ignored, [[0, 0, size[1], size[0]]], rtol=1e-6)


def test_the_canvas_holds_the_largest_of_the_sizes():
    sizing = ShortestSide((64, 128, 96), 160)
    assert sizing.canvases == ShortestSide((128,), 160).canvases
    plan = BatchPlan(np.array([(100, 110)] * 4), 4, sizing)
    assert sizing.largest(100, 110) == (128, 140) and plan.batch(0).canvas == (128, 160)


def test_the_longer_side_is_limited_at_every_size():
    pixels, _ = ShortestSide((60, 90), 100).apply(_example(50, 100, []), (96, 128), Draws(0.6), **PLAIN)
    assert pixels.shape == (50, 100, 3)


def test_one_size_draws_nothing():
    example = _example(30, 40, [[1, 2, 3, 4]])
    pixels, placed = ShortestSide((60,), 100).apply(example, (64, 96), Draws(), **PLAIN)
    assert pixels.shape == (60, 80, 3)
    np.testing.assert_array_equal(placed.boxes, [[2, 4, 6, 8]])


def test_a_image_of_another_shape_than_planned_is_shrunk_into_its_canvas():
    example = _example(50, 20, [[0, 0, 20, 50]])  # 160 x 64 on a canvas for wide images
    pixels, placed = ShortestSide((64,), 160).apply(example, (64, 160), Draws(), **PLAIN)
    assert pixels.shape == (64, 25, 3)
    np.testing.assert_allclose(placed.boxes, [[0, 0, 25, 64]], rtol=1e-6)
    pixels, _ = ShortestSide((64,), 160).apply(_example(1, 500, []), (64, 160), Draws(), **PLAIN)
    assert pixels.shape == (1, 160, 3)


def test_a_image_without_pixels_at_the_smallest_size_is_an_error():
    with pytest.raises(DataError, match="an image of 3000 x 2 would be resized to 160 x 0"):
        ShortestSide((8, 96), 160).largest(2, 3000)


def test_jitter_that_enlarges_crops_boxes_with_the_image():
    sizing = ScaleJitter((0.5, 2.0), (100, 100))
    boxes = [[0, 0, 40, 40], [60, 10, 130, 50], [150, 20, 190, 90]]
    example = _example(100, 200, boxes, [[0, 0, 30, 100], [90, 40, 110, 60]])
    # The scale is 2, the image fits at 1/2: 100 x 200 stays, and half of the 100 surplus columns go on the left.
    pixels, placed = sizing.apply(example, (128, 128), Draws(1.0, 0.5), **PLAIN)
    assert pixels.shape == (100, 100, 3)
    np.testing.assert_allclose(pixels, example.image[:, 50:150] / np.float32(255), atol=1e-6)
    np.testing.assert_array_equal(placed.boxes, [[10, 10, 80, 50]])
    np.testing.assert_array_equal(placed.labels, [2])
    np.testing.assert_array_equal(placed.ignored, [[40, 40, 60, 60]])


def test_jitter_into_a_size_that_is_no_square():
    """The image fits 40 x 100 at 40 / 80, its height, and the scale is 2: 80 x 120, cropped in the middle."""
    example = _example(80, 120, [[0, 0, 120, 80], [30, 50, 40, 60]])
    pixels, placed = ScaleJitter((0.5, 2.0), (40, 100)).apply(example, (64, 128), Draws(1.0, 0.5), **PLAIN)
    np.testing.assert_allclose(pixels, example.image[20:60, 10:110] / np.float32(255), atol=1e-6)
    np.testing.assert_array_equal(placed.boxes, [[0, 0, 100, 40], [20, 30, 30, 40]])


def test_a_box_that_only_touches_the_crop_goes():
    example = _example(100, 200, [[0, 0, 50, 50], [0, 0, 50.5, 50], [150, 0, 200, 9], [149.5, 0, 200, 9]])
    _, placed = ScaleJitter((1.0, 2.0), (100, 100)).apply(example, (128, 128), Draws(1.0, 0.5), **PLAIN)
    np.testing.assert_array_equal(placed.boxes, [[0, 0, 0.5, 50], [99.5, 0, 100, 9]])
    np.testing.assert_array_equal(placed.labels, [2, 4])


def test_jitter_that_shrinks_keeps_the_whole_image():
    example = _example(80, 40, [[4, 8, 12, 16]], [[0, 0, 40, 80]])
    # The image fits at 100 / 80 and the scale is 0.4: half its size.
    pixels, placed = ScaleJitter((0.4, 2.0), (100, 100)).apply(example, (128, 128), Draws(0.0, 0.9), **PLAIN)
    small = np.asarray(Image.fromarray(example.image).resize((20, 40), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(pixels, small / np.float32(255), atol=1e-6)
    np.testing.assert_allclose(placed.boxes, [[2, 4, 6, 8]], rtol=1e-6)
    np.testing.assert_allclose(placed.ignored, [[0, 0, 20, 40]], rtol=1e-6)


def test_jitter_never_leaves_a_image_without_pixels():
    pixels, _ = ScaleJitter((0.1, 2.0), (64, 64)).apply(_example(1, 500, []), (64, 64), Draws(0.0, 0.0), **PLAIN)
    assert pixels.shape == (1, 6, 3)


def test_jitter_has_one_canvas_for_all_images():
    sizing = ScaleJitter((0.1, 2.0), (100, 90))
    assert sizing.canvases == ((128, 96),)
    for sizes in (np.array([(10, 900), (900, 10), (50, 50)]), 3):
        assert BatchPlan(sizes, 3, sizing).batch(0).canvas == (128, 96)


def test_sizes_are_needed_where_there_is_a_choice():
    assert BatchPlan(5, 2, SquareCrop(40, 30)).batch(0).canvas == (30, 30)
    with pytest.raises(ValueError, match="has 5 canvases: give the sizes of the images"):
        BatchPlan(5, 2, ShortestSide((96,), 160))


def test_sizes_out_of_range():
    for wrong in (lambda: ShortestSide((), 100), lambda: ShortestSide((0,), 100), lambda: ShortestSide((50,), 0)):
        with pytest.raises(ValueError, match="sizes of at least 1 pixel"):
            wrong()
    with pytest.raises(ValueError, match="at most resize=10, got 11"):
        SquareCrop(10, 11)


def test_what_is_small_keeps_its_size_where_nothing_is_enlarged():
    sizing = ShortestSide((64,), 96, enlarge=False)
    assert sizing.largest(40, 50) == (40, 50) and sizing.largest(128, 128) == (64, 64)
    assert ShortestSide((64,), 96).largest(40, 50) == (64, 80)
    transform = DetectorTransform(min_size=64, max_size=96, enlarge=False)
    assert Augmentation(min_sizes=(48, 64)).sizing(transform) == ShortestSide((48, 64), 96, enlarge=False)

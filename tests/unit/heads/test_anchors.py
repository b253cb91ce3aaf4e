"""Anchors, hand-computed and against torchvision's documented cases."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet import AnchorGenerator


def test_cell_anchors_are_rounded_ratio_by_ratio():
    (cell,) = AnchorGenerator(((32,),), ((0.5, 1.0, 2.0),)).cell_anchors
    np.testing.assert_array_equal(cell, [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]])


def test_eight_sizes_and_three_ratios_give_24():
    generator = AnchorGenerator(((4, 8, 16, 32, 64, 128, 256, 512),), ((0.5, 1.0, 2.0),))
    assert generator.num_anchors_per_location() == [24]
    assert generator.cell_anchors[0].shape == (24, 4)


def test_shorthands_mean_what_torchvision_means():
    assert AnchorGenerator((32, 64), (0.5, 1.0)) == AnchorGenerator(((32,), (64,)), ((0.5, 1.0), (0.5, 1.0)))


def test_the_distance_is_extent_over_grid():
    generator = AnchorGenerator((10, 20), (1.0,))
    extents = jnp.array([[800, 96]])
    shapes = [(30, 4), (13, 2)]
    boxes, valid = generator(shapes, extents, [jnp.array([[25, 3]]), jnp.array([[13, 2]])])
    first = boxes[0].reshape(30, 4, 4)
    np.testing.assert_array_equal(first[2, 1], [32 - 5, 64 - 5, 32 + 5, 64 + 5])
    np.testing.assert_array_equal(valid[0].reshape(30, 4)[25:].any(), False)
    np.testing.assert_array_equal(valid[0].reshape(30, 4)[:25, :3].all(), True)
    np.testing.assert_array_equal(valid[0].reshape(30, 4)[:, 3].any(), False)
    second = boxes[1].reshape(13, 2, 4)
    np.testing.assert_array_equal(second[1, 0, 1] + 10, 61)  # 800 // 13, not 64
    np.testing.assert_array_equal(second[0, 1, 0] + 10, 48)


def test_steps_are_fractions_where_they_are_not_to_be_whole():
    generator = AnchorGenerator((10,), (1.0,), whole_steps=False)
    (boxes,), _ = generator([(13, 2)], jnp.array([[800, 96]]), [jnp.array([[13, 2]])])
    np.testing.assert_allclose(boxes.reshape(13, 2, 4)[2, 1], [48 - 5, 1600 / 13 - 5, 48 + 5, 1600 / 13 + 5], rtol=1e-6)


def test_a_count_that_does_not_match_says_both():
    generator = AnchorGenerator((32, 64), (1.0,))
    with pytest.raises(ValueError, match=r"2 levels.* 1 feature maps"):
        generator([(4, 4)], jnp.array([[32, 32]]), [jnp.array([[4, 4]])])
    with pytest.raises(ValueError, match="2 levels, but aspect ratios for 1"):
        AnchorGenerator(((32,), (64,)), ((1.0,),))

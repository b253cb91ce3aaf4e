"""Boxes around masks, and small boxes removed: by hand, padding, and torchvision's numbers."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdet.ops import masks_to_boxes, remove_small_boxes
from torchvision_cpu import torchvision_or_skip


def masks():
    rng = np.random.default_rng(0)
    masks = rng.uniform(size=(20, 9, 13)) < np.geomspace(0.002, 0.9, 20)[:, None, None]
    masks[0], masks[1] = False, True
    masks[2], masks[3] = False, False
    masks[2, 4, 5] = masks[3, -1, 2] = masks[3, -1, 7] = True
    return masks


def test_masks_to_boxes_equals_torchvision():
    torchvision = torchvision_or_skip()
    import torch

    for dtype in (bool, np.uint8, np.float32):
        expected = torchvision.ops.masks_to_boxes(torch.from_numpy(masks().astype(dtype))).numpy()
        boxes = jax.jit(masks_to_boxes)(masks().astype(dtype))
        assert boxes.dtype == jnp.float32
        np.testing.assert_array_equal(boxes, expected)
    np.testing.assert_array_equal(expected[:4], [[0, 0, 0, 0], [0, 0, 12, 8], [5, 4, 5, 4], [2, 8, 7, 8]])


def test_masks_of_a_batch_with_padding():
    batch = masks().reshape(4, 5, 9, 13)
    valid = np.arange(20).reshape(4, 5) % 3 != 1
    boxes = np.asarray(masks_to_boxes(batch, valid=valid))
    assert not boxes[~valid].any()
    np.testing.assert_array_equal(boxes[valid], np.asarray(masks_to_boxes(masks())).reshape(4, 5, 4)[valid])
    assert masks_to_boxes(np.zeros((0, 4, 4), bool)).shape == (0, 4)


def test_remove_small_boxes():
    torchvision = torchvision_or_skip()
    import torch

    boxes = np.float32([[0, 0, 1, 1], [0, 0, 3, 2], [5, 5, 4, 9], [0, 0, 2, 2], [0, 0, 1.99, 9], [np.nan] * 4])
    valid = np.array([True, True, True, True, True, False])
    kept = jax.jit(lambda b, v: remove_small_boxes(b, 2, valid=v))(boxes, valid)
    expected = torchvision.ops.remove_small_boxes(torch.from_numpy(boxes), 2).tolist()
    assert expected == [1, 3]
    np.testing.assert_array_equal(kept.indices, [1, 3, 0, 0, 0, 0])
    np.testing.assert_array_equal(kept.valid, [True, True, False, False, False, False])
    nothing = remove_small_boxes(boxes, 2, valid=np.zeros(6, bool))
    assert not np.asarray(nothing.valid).any() and not np.asarray(nothing.indices).any()

"""What padding does to the losses of boxes and logits (nothing), hand-computed values, and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.ops import (
    box_convert,
    complete_box_iou,
    complete_box_iou_loss,
    distance_box_iou_loss,
    generalized_box_iou,
    generalized_box_iou_loss,
    sigmoid_focal_loss,
)

FIRST = np.float32([[0, 0, 4, 4], [0, 0, 2, 2]])
SECOND = np.float32([[0, 0, 4, 2], [3, 0, 4, 2]])
LOSSES = (generalized_box_iou_loss, distance_box_iou_loss, complete_box_iou_loss)


def with_padding(array):
    """Slots of NaN, infinity and a degenerate box between the others, and which slots are valid."""
    filled = np.full((5, *array.shape[1:]), np.nan, np.float32)
    filled[0], filled[2] = np.inf, 3
    filled[[1, 4]] = array
    return filled, np.array([False, True, False, False, True])


def test_values_by_hand():
    np.testing.assert_allclose(generalized_box_iou_loss(FIRST, SECOND), [0.5, 1.25], rtol=1e-6)
    # Centres one and two and a half apart; diagonals squared of 32 and of 20.
    np.testing.assert_allclose(distance_box_iou_loss(FIRST, SECOND), [0.5 + 1 / 32, 1 + 2.5**2 / 20], rtol=1e-6)
    v = 4 / np.pi**2 * (np.arctan(2) - np.arctan(1)) ** 2
    complete = 0.5 + 1 / 32 + v * v / (0.5 + v)
    np.testing.assert_allclose(complete_box_iou_loss(FIRST, SECOND)[0], complete, rtol=1e-6)
    np.testing.assert_allclose(generalized_box_iou(FIRST, SECOND), [[0.5, 1 / 8], [0.5, -1 / 4]], rtol=1e-6)
    p = np.array([0.8, 0.3])
    logits, targets = jnp.asarray(np.log(p / (1 - p)), jnp.float32), jnp.array([1.0, 0.0])
    np.testing.assert_allclose(
        sigmoid_focal_loss(logits, targets),
        [-0.25 * 0.2**2 * np.log(0.8), -0.75 * 0.3**2 * np.log(0.7)],
        rtol=2e-6,
    )


@pytest.mark.parametrize("loss", [*LOSSES, sigmoid_focal_loss])
def test_padding_changes_nothing(loss):
    inputs = (FIRST, SECOND) if loss in LOSSES else (FIRST, np.float32(SECOND > 2))
    padded, valid = zip(*map(with_padding, inputs), strict=True)

    @jax.jit
    def run(first, second, valid):
        def total(first):
            values = [loss(first, second, reduction=kind, valid=valid) for kind in ("none", "sum", "mean")]
            return sum((n + 1) * value.sum() for n, value in enumerate(values)), values

        return jax.grad(total, has_aux=True)(first)

    (expected, values), (gradient, all_values) = run(*inputs, None), run(*padded, valid[0])
    np.testing.assert_allclose(gradient[valid[0]], expected, rtol=1e-5)
    np.testing.assert_allclose(all_values[0][valid[0]], values[0], rtol=1e-6)
    np.testing.assert_allclose(all_values[1:], values[1:], rtol=1e-6)
    nothing, none = run(*padded, np.zeros(5, bool))
    for array in (np.asarray(gradient)[~valid[0]], np.asarray(all_values[0])[~valid[0]], nothing, *none):
        assert not np.asarray(array).any()


@pytest.mark.parametrize("loss", LOSSES)
def test_degenerate_boxes_have_finite_gradients(loss):
    boxes = np.float32([[1, 1, 1, 1], [0, 0, 0, 5], [0, 0, 5, 0], [4, 4, 1, 1], [0, 0, 1, 1]])
    first, second = np.repeat(boxes, 5, axis=0), np.tile(boxes, (5, 1))
    value, gradient = jax.jit(jax.value_and_grad(lambda b: loss(b, second, "sum")))(first)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_nan_stays_in_its_row():
    boxes = np.concatenate([FIRST, np.full((1, 4), np.nan, np.float32)])
    iou = np.asarray(complete_box_iou(boxes, boxes))
    assert np.isfinite(iou[:2, :2]).all()
    np.testing.assert_array_equal(np.isnan(box_convert(boxes, "xyxy", "cxcywh")).any(axis=1), [False, False, True])


def test_bfloat16_is_computed_in_float32():
    loss = generalized_box_iou_loss(jnp.asarray(FIRST, jnp.bfloat16), jnp.asarray(SECOND, jnp.bfloat16))
    assert loss.dtype == jnp.float32
    assert sigmoid_focal_loss(jnp.ones(2, jnp.bfloat16), jnp.ones(2, jnp.int32)).dtype == jnp.float32


def test_integers_are_converted_as_there():
    boxes = jnp.array([[3, 4, 5, 6, 30]])
    np.testing.assert_array_equal(box_convert(boxes, "cxcywhr", "xywhr"), [[-1, 3, 5, 6, 30]])  # of -0.67 and 2.65
    assert box_convert(boxes, "cxcywhr", "xyxyxyxy").dtype == jnp.int32
    assert box_convert(boxes[:, :4], "xyxy", "xywh").dtype == jnp.int32
    np.testing.assert_array_equal(box_convert(boxes[:, :4], "xyxy", "cxcywh"), [[4, 5, 2, 2]])


def test_refusals():
    with pytest.raises(ValueError, match=r"'yolo'.*xywhr"):
        box_convert(FIRST, "xyxy", "yolo")
    with pytest.raises(ValueError, match="one is rotated"):
        box_convert(FIRST, "xyxy", "xywhr")
    with pytest.raises(ValueError, match=r"xywhr boxes are \[..., 5\]"):
        box_convert(FIRST, "xywhr", "cxcywhr")
    with pytest.raises(ValueError, match="none, sum, mean, not 'max'"):
        generalized_box_iou_loss(FIRST, SECOND, "max")
    with pytest.raises(ValueError, match="one shape"):
        generalized_box_iou_loss(FIRST, SECOND[:1])
    with pytest.raises(ValueError, match="alpha"):
        sigmoid_focal_loss(FIRST, SECOND, alpha=1.5)
    with pytest.raises(ValueError, match="leading axes"):
        sigmoid_focal_loss(FIRST, SECOND, valid=np.ones(4, bool))

"""RetinaNet's target assignment and losses, worked out by hand; torchvision's numbers are in tests/parity."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.models.retinanet.losses import box_regression_loss, classification_loss
from jaxdet.models.retinanet.targets import AnchorTargets, assign_targets
from jaxdet.types import Targets

ANCHORS = jnp.array(
    [
        [0.0, 0, 20, 20],  # the object
        [0, 0, 20, 44],  # its IoU is 0.45: between the thresholds
        [60, 0, 80, 20],  # within the region
        [90, 0, 110, 20],  # half of it
        [91, 0, 111, 20],  # less than half of it
        [0, 60, 20, 80],  # far from everything
        [np.nan] * 4,
    ]
)
KNOWN = jnp.arange(7) < 6
# An object, a region that ends at x = 100, and a slot of padding.
TARGETS = Targets(
    jnp.array([[0.0, 0, 20, 20], [60, 0, 100, 40], [np.nan] * 4]),
    jnp.array([2, 0, 9]),
    jnp.array([True, False, False]),
    jnp.array([False, True, False]),
)


@pytest.mark.parametrize("thresh, negative", [(0.5, [4, 5]), (0.95, [3, 4, 5]), (None, [2, 3, 4, 5])])
def test_anchors_in_a_region_are_no_background(thresh, negative):
    found = assign_targets(ANCHORS, KNOWN, TARGETS, ignore_thresh=thresh)
    assert np.flatnonzero(found.positive).tolist() == [0] and np.flatnonzero(found.negative).tolist() == negative
    assert found.labels.tolist() == [2, 0, 0, 0, 0, 0, 0]
    np.testing.assert_array_equal(found.boxes[0], TARGETS.boxes[0])


def test_thresholds_and_an_image_without_objects():
    found = assign_targets(ANCHORS, KNOWN, TARGETS, fg_iou_thresh=0.45, bg_iou_thresh=0.1, ignore_thresh=None)
    assert np.flatnonzero(found.positive).tolist() == [0, 1]
    none = Targets(TARGETS.boxes, TARGETS.labels, jnp.zeros(3, bool))
    found = assign_targets(ANCHORS, KNOWN, none)
    assert not found.positive.any() and np.flatnonzero(found.negative).tolist() == [0, 1, 2, 3, 4, 5]


def _batch():
    """Two images of three anchors and a slot without one: two foreground anchors and a background one; one anchor that
    is neither, and background; what has no loss holds NaN."""
    nan = np.nan
    logits = np.full((3, 3, 2), nan, np.float32)
    logits[0], logits[1, 1:] = [[0, 0], [0, 0], [0, 0]], [[0, 0], [0, 0]]
    deltas, anchors = np.full((2, 3, 3, 4), nan, np.float32)
    deltas[0, :2] = [[0.5, -0.5, 0, 1], [0, 0, 0, 0]]
    anchors[0, :2] = [[0, 0, 10, 10], [0, 0, 10, 20]]
    boxes = np.full((3, 3, 4), nan, np.float32)
    boxes[0, :2] = [[0, 0, 10, 10], [0, 0, 10, 10]]
    positive = np.array([[True, True, False], [False] * 3, [False] * 3])
    negative = np.array([[False, False, True], [False, True, True], [False] * 3])
    labels = np.array([[1, 1, 0], [0] * 3, [0] * 3], np.int32)
    return logits, deltas, anchors, AnchorTargets(labels, boxes, positive, negative)


def _values(logits, deltas, anchors, targets, present):
    def total(predicted):
        values = (
            classification_loss([predicted[0][:, :2], predicted[0][:, 2:]], targets, present),
            box_regression_loss(predicted[1], anchors, targets, present, "l1"),
            box_regression_loss(predicted[1], anchors, targets, present, "giou"),
        )
        return sum(values), values

    gradient, values = jax.grad(total, has_aux=True)((logits, deltas))
    return values, gradient


def test_losses_by_hand():
    """Logits of 0: log 2 / 4 for each, times the weight of its class: 0.25 where it is 1, else 0.75."""
    values, _ = jax.jit(_values)(*_batch(), np.array([True, True, False]))
    unit = np.log(2) / 4
    classes = (2 * (0.25 + 0.75) + 2 * 0.75) / 2 + 4 * 0.75  # the second image has no foreground: over 1
    np.testing.assert_allclose(values[0], classes * unit / 2, rtol=1e-6)
    l1 = (2 + (0.25 + np.log(2))) / 2  # the second object is half as high as its anchor, its centre 5 of 20 higher
    np.testing.assert_allclose(values[1], l1 / 2, rtol=1e-6)
    width, height = 10, 10 * np.e  # the first box is centred on (10, 0)
    shared = 5 * min(10, height / 2)
    union = width * height + 100 - shared
    enclosing = 15 * (height / 2 + max(10, height / 2))
    first = 1 - shared / union + (enclosing - union) / enclosing
    np.testing.assert_allclose(values[2], (first + 0.5) / 2 / 2, rtol=1e-6)


def test_an_empty_slot_of_the_batch_changes_nothing():
    logits, deltas, anchors, targets = _batch()
    present = np.array([True, True, False])
    values, gradient = jax.jit(_values)(logits, deltas, anchors, targets, present)
    rows = [x[:2] for x in (logits, deltas, anchors)]
    expected, its_gradient = jax.jit(_values)(*rows, AnchorTargets(*(x[:2] for x in targets)), present[:2])
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    for ours, theirs in zip(gradient, its_gradient, strict=True):
        np.testing.assert_allclose(ours[:2], theirs, rtol=1e-6)
        assert not np.asarray(ours)[2].any() and np.isfinite(ours).all()
    nothing, _ = jax.jit(_values)(logits, deltas, anchors, targets, np.zeros(3, bool))
    assert [float(value) for value in nothing] == [0, 0, 0]


def test_an_unknown_box_loss_is_refused():
    with pytest.raises(ValueError, match="l1, giou, not 'iou'"):
        box_regression_loss(*_batch()[1:], np.ones(3, bool), "iou")

"""Soft-NMS against a plain sequential one, and greedy NMS as its limit."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.ops import SoftNMS, nms, soft_nms

N = 12  # one shape for all cases


def _plain(boxes, scores, groups, config, limit):
    """One box after another, in plain Python; returns (index, score) pairs."""
    boxes, scores = boxes.astype(np.float64), scores.astype(np.float64).copy()
    margin = float(config.plus_one)
    left, taken = list(range(len(boxes))), []

    def size(box):
        return (box[2] - box[0] + margin) * (box[3] - box[1] + margin)

    while left and len(taken) < limit:
        best = max(left, key=lambda i: (scores[i], -i))
        if scores[best] <= config.score_threshold:
            break
        taken.append((best, scores[best]))
        left.remove(best)
        for i in left:
            if groups[i] != groups[best]:
                continue
            width = max(min(boxes[i, 2], boxes[best, 2]) - max(boxes[i, 0], boxes[best, 0]) + margin, 0)
            height = max(min(boxes[i, 3], boxes[best, 3]) - max(boxes[i, 1], boxes[best, 1]) + margin, 0)
            shared = width * height
            iou = shared / (size(boxes[i]) + size(boxes[best]) - shared)
            if config.kind == "gaussian":
                scores[i] *= np.exp(-(iou**2) / config.sigma)
            elif iou > config.iou_threshold:
                scores[i] *= 1 - iou
    return taken


def _cases(seed, count):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 30, (count, N, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(2, 25, (count, N, 2))], -1).astype(np.float32)
    scores = rng.uniform(0, 1, (count, N)).astype(np.float32)
    valid = rng.uniform(size=(count, N)) < 0.8
    return boxes, scores, rng.integers(0, 3, (count, N)), valid


@pytest.mark.parametrize("agnostic", [True, False])
@pytest.mark.parametrize("limit", [N, 5])
@pytest.mark.parametrize(
    "config",
    [SoftNMS(), SoftNMS(plus_one=True, sigma=0.5, score_threshold=0.1), SoftNMS("linear", score_threshold=0.05)],
    ids=["gaussian", "plus_one", "linear"],
)
def test_equal_a_sequential_reference(config, limit, agnostic):
    """Over a hundred cases each, NaN in what is not valid; every box comes with its own decayed score."""
    boxes, scores, groups, valid = _cases(0, 120)
    dirty = np.where(valid[..., None], boxes, np.nan), np.where(valid, scores, np.nan)
    run = jax.jit(
        jax.vmap(lambda b, s, g, v: soft_nms(b, s, None if agnostic else g, config, valid=v, max_outputs=limit))
    )
    found = jax.device_get(run(*map(jnp.asarray, dirty), jnp.asarray(groups), jnp.asarray(valid)))
    for row in range(len(boxes)):
        known = np.flatnonzero(valid[row])
        names = np.zeros(len(known)) if agnostic else groups[row][known]
        expected = _plain(boxes[row][known], scores[row][known], names, config, limit)
        taken = found.valid[row]
        assert found.indices[row][taken].tolist() == [known[index] for index, _ in expected]
        np.testing.assert_allclose(found.scores[row][taken], [score for _, score in expected], rtol=1e-4, atol=1e-7)
        assert not taken[taken.sum() :].any()
        assert not found.scores[row][~taken].any() and not found.indices[row][~taken].any()


def test_three_boxes_by_hand():
    """The second box lies in half of the first: its 0.9 decays by exp(-0.25 / 0.25); the third touches neither."""
    boxes = jnp.array([[0.0, 0, 10, 10], [0, 0, 10, 5], [50, 50, 60, 60]])
    kept = soft_nms(boxes, jnp.array([0.95, 0.9, 0.5]), None)
    assert kept.indices.tolist() == [0, 2, 1]
    np.testing.assert_allclose(kept.scores, [0.95, 0.5, 0.9 * np.exp(-1)], rtol=1e-6)
    linear = soft_nms(boxes, jnp.array([0.95, 0.9, 0.5]), None, SoftNMS("linear", iou_threshold=0.5))
    np.testing.assert_allclose(linear.scores, [0.95, 0.9, 0.5])  # an IoU of the threshold itself changes nothing


def test_a_score_of_the_threshold_is_not_taken():
    boxes = jnp.array([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]])
    kept = soft_nms(boxes, jnp.array([0.5, 0.25, 0.75]), None, SoftNMS(score_threshold=0.25))
    assert kept.indices[kept.valid].tolist() == [2, 0]
    none = soft_nms(boxes, jnp.array([0.0, 0.0, 0.75]), None, SoftNMS(score_threshold=0.0))
    assert none.indices[none.valid].tolist() == [2]


def test_without_sigma_it_is_greedy_nms_at_threshold_zero():
    boxes, scores, _, valid = _cases(1, 200)
    soft = jax.jit(jax.vmap(lambda b, s, v: soft_nms(b, s, None, SoftNMS(sigma=1e-12), valid=v)))
    hard = jax.jit(jax.vmap(lambda b, s, v: nms(b, s, 0.0, valid=v)))
    ours, theirs = soft(boxes, scores, valid), hard(boxes, scores, valid)
    above = theirs.valid & (np.take_along_axis(scores, np.asarray(theirs.indices), 1) > SoftNMS().score_threshold)
    np.testing.assert_array_equal(ours.valid, above)
    np.testing.assert_array_equal(ours.indices, np.where(above, theirs.indices, 0))


def test_more_slots_than_boxes_and_none_at_all():
    kept = soft_nms(jnp.array([[0.0, 0, 1, 1]]), jnp.array([0.5]), None, max_outputs=3)
    assert kept.valid.tolist() == [True, False, False]
    none = soft_nms(jnp.zeros((0, 4)), jnp.zeros(0), None, max_outputs=2)
    assert none.indices.shape == (2,) and not none.valid.any()


@pytest.mark.parametrize("options", [{"kind": "hard"}, {"sigma": 0.0}, {"iou_threshold": 2.0}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ValueError, match="soft-NMS"):
        SoftNMS(**options)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="expected boxes"):
        partial(soft_nms, idxs=None)(jnp.zeros((2, 4)), jnp.zeros(3))

"""Post-processing and proposals against plain loops, with NaN in every padded slot."""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.heads import (
    BoxConfig,
    RoIOutputs,
    RPNConfig,
    RPNOutputs,
    assign_levels,
    pool_proposals,
    postprocess,
    select_proposals,
)
from jaxdet.ops import BoxCoder, SoftNMS, box_iou
from jaxdet.types import Proposals


def _select(outputs, size, config, **options):
    return jax.jit(lambda outputs: select_proposals(outputs, jnp.asarray([size]), config, **options))(outputs)


def _greedy(boxes, scores, groups, threshold, limit):
    order, kept = list(np.argsort(-scores, kind="stable")), []
    iou = np.asarray(jax.jit(box_iou)(boxes, boxes))
    for i in order:
        if all(groups[i] != groups[j] or iou[i, j] <= threshold for j in kept):
            kept.append(i)
    return kept[:limit]


def _case(seed, proposals=40, classes=4, size=(120, 160)):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 90, (proposals, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 60, (proposals, 2))], 1).astype(np.float32)
    logits = rng.normal(0, 2, (proposals, classes)).astype(np.float32)
    deltas = rng.normal(0, 0.7, (proposals, classes, 4)).astype(np.float32)
    return boxes, logits, deltas, np.array(size)


def _expected(boxes, logits, deltas, size, config):
    scores = np.asarray(jax.nn.softmax(jnp.asarray(logits), -1))
    decoded = np.array(jax.jit(BoxCoder(config.reg_weights).decode)(deltas, boxes[:, None]))
    decoded[..., 0::2] = decoded[..., 0::2].clip(0, size[1])
    decoded[..., 1::2] = decoded[..., 1::2].clip(0, size[0])
    rows = [
        (decoded[r, k], scores[r, k], k)
        for r in range(len(boxes))
        for k in range(1, logits.shape[1])
        if scores[r, k] > config.score_thresh and (decoded[r, k, 2:] - decoded[r, k, :2]).min() >= 1e-2
    ]
    b, s, k = (np.array(x) for x in zip(*rows, strict=True))
    groups = np.zeros_like(k) if config.class_agnostic_nms else k
    kept = _greedy(b, s, groups, config.nms_thresh, config.detections_per_img)
    return b[kept], s[kept], k[kept]


def _post(outputs, proposals, sizes, config, decay=None):
    """A program of its own each time: the tests change what it was traced with."""
    return jax.jit(lambda *args: postprocess(*args, config, decay))(outputs, proposals, jnp.asarray(sizes))


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("limit, first", [(100, 2048), (10, 12), (100, 20)], ids=["all", "few", "overflow"])
def test_detections_equal_a_plain_loop(agnostic, limit, first, monkeypatch):
    monkeypatch.setattr(sys.modules["jaxdet.heads.suppression"], "FAST_CANDIDATES", first)
    config = BoxConfig(detections_per_img=limit, class_agnostic_nms=agnostic)
    boxes, logits, deltas, size = _case(0)
    padded = Proposals(
        jnp.concatenate([jnp.asarray(boxes), jnp.full((5, 4), jnp.nan)])[None],
        jnp.zeros((1, 45)),
        (jnp.arange(45) < 40)[None],
    )
    outputs = RoIOutputs(
        jnp.concatenate([jnp.asarray(logits), jnp.full((5, 4), jnp.nan)])[None],
        jnp.concatenate([jnp.asarray(deltas), jnp.full((5, 4, 4), jnp.nan)])[None],
    )
    found = _post(outputs, padded, size[None], config)
    keep = np.asarray(found.valid[0])
    b, s, k = _expected(boxes, logits, deltas, size, config)
    np.testing.assert_array_equal(np.asarray(found.labels[0])[keep], k)
    np.testing.assert_allclose(np.asarray(found.scores[0])[keep], s, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(found.boxes[0])[keep], b, atol=1e-3)
    assert not np.asarray(found.boxes[0])[~keep].any()


SIZE = (80, 80)


def _outputs(boxes, scores):
    """Outputs whose detections are these boxes ``[B, R, 4]`` with these scores ``[B, R, classes]``, if all are kept."""
    scores, boxes = np.asarray(scores, np.float32), np.asarray(boxes, np.float32)
    background = 1 - scores.sum(-1, keepdims=True)
    logits = jnp.log(jnp.asarray(np.concatenate([background, scores], -1)))
    valid = jnp.ones(boxes.shape[:2], bool)
    return RoIOutputs(logits, jnp.zeros((*logits.shape, 4))), Proposals(
        jnp.asarray(boxes), jnp.zeros(valid.shape), valid
    )


def _found(detections, image=0):
    keep = np.asarray(detections.valid[image])
    return (np.asarray(part[image])[keep] for part in (detections.boxes, detections.scores, detections.labels))


def test_one_image_of_a_batch_needs_all_its_candidates(monkeypatch):
    """The four best candidates of the first image are one box, so the fifth and sixth are needed to fill its slots."""
    monkeypatch.setattr(sys.modules["jaxdet.heads.suppression"], "FAST_CANDIDATES", 4)
    same, apart = [0, 0, 20, 20], [[40, 0, 60, 20], [0, 40, 20, 60]]
    boxes = [[same] * 4 + apart, [same, *apart, same, same, same]]
    scores = [[[0.9], [0.8], [0.7], [0.6], [0.5], [0.4]], [[0.9], [0.8], [0.7], [0.01], [0.01], [0.01]]]
    found = _post(*_outputs(boxes, scores), [SIZE, SIZE], BoxConfig(detections_per_img=3))
    for image, expected in enumerate(([0.9, 0.5, 0.4], [0.9, 0.8, 0.7])):
        kept, values, labels = _found(found, image)
        np.testing.assert_allclose(kept, [same, *apart], atol=1e-4)
        np.testing.assert_allclose(values, expected, rtol=1e-5)
        assert labels.tolist() == [1, 1, 1]


def test_a_score_of_the_threshold_and_a_side_below_a_hundredth_are_dropped():
    boxes = [[[0, 0, 20, 20], [40, 0, 60, 20], [0, 40, 20, 40.009], [0, 60, 20, 60.011]]]
    scores = [[[0.5], [0.75], [0.75], [0.75]]]
    outputs, proposals = _outputs(boxes, scores)
    exactly = float(jax.nn.softmax(outputs.logits[0, 0])[1])
    found = _post(outputs, proposals, [SIZE], BoxConfig(score_thresh=exactly))
    np.testing.assert_allclose(next(_found(found)), [boxes[0][1], boxes[0][3]], atol=1e-4)


@pytest.mark.parametrize("agnostic, expected", [(False, [0.5, 0.3]), (True, [0.5, 0.3 * np.exp(-4)])])
def test_soft_nms_lowers_scores_of_the_same_class(agnostic, expected):
    """One box in two classes: exp(-1 / 0.25) where the classes meet."""
    config = BoxConfig(class_agnostic_nms=agnostic)
    found = _post(*_outputs([[[0, 0, 20, 20]]], [[[0.5, 0.3]]]), [SIZE], config, SoftNMS())
    _, scores, labels = _found(found)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    assert labels.tolist() == [1, 2]


def test_an_image_without_proposals_has_no_detections():
    none = Proposals(jnp.full((1, 3, 4), jnp.nan), jnp.zeros((1, 3)), jnp.zeros((1, 3), bool))
    outputs = RoIOutputs(jnp.zeros((1, 3, 2)), jnp.zeros((1, 3, 2, 4)))
    assert not _post(outputs, none, [[10, 10]], BoxConfig()).valid.any()


def test_proposals_equal_a_plain_loop_over_levels():
    rng = np.random.default_rng(1)
    config = RPNConfig(pre_nms_top_n_test=30, post_nms_top_n_test=25, nms_thresh=0.6)
    counts = (50, 12)
    size = np.array([90, 70])
    anchors, logits, deltas, valid, expected = [], [], [], [], []
    for count in counts:
        corner = rng.uniform(-10, 60, (count, 2))
        a = np.concatenate([corner, corner + rng.uniform(4, 50, (count, 2))], 1).astype(np.float32)
        lo, de = rng.normal(0, 2, count).astype(np.float32), rng.normal(0, 0.3, (count, 4)).astype(np.float32)
        ok = rng.uniform(size=count) > 0.2
        boxes = np.array(jax.jit(BoxCoder().decode)(de, a))
        boxes[:, 0::2], boxes[:, 1::2] = boxes[:, 0::2].clip(0, size[1]), boxes[:, 1::2].clip(0, size[0])
        rows = [i for i in np.argsort(-lo, kind="stable") if ok[i]][:30]
        rows = [i for i in rows if (boxes[i, 2:] - boxes[i, :2]).min() >= 1e-3]
        scores = 1 / (1 + np.exp(-lo[rows]))
        kept = _greedy(boxes[rows], scores, np.zeros(len(rows)), 0.6, 1000)
        expected += [(scores[i], boxes[rows][i]) for i in kept]
        anchors.append(jnp.asarray(np.where(ok[:, None], a, np.nan))[None])
        deltas.append(jnp.asarray(np.where(ok[:, None], de, np.nan))[None])
        logits.append(jnp.asarray(np.where(ok, lo, np.nan))[None])
        valid.append(jnp.asarray(ok)[None])
    outputs = RPNOutputs(tuple(logits), tuple(deltas), tuple(anchors), tuple(valid))
    found = _select(outputs, size, config)
    expected = sorted(expected, key=lambda row: -row[0])[:25]
    keep = np.asarray(found.valid[0])
    assert keep.sum() == len(expected)
    np.testing.assert_allclose(np.asarray(found.scores[0])[keep], [s for s, _ in expected], rtol=1e-5)
    np.testing.assert_allclose(np.asarray(found.boxes[0])[keep], [b for _, b in expected], atol=1e-3)


def _levels(logits, boxes):
    """RPN outputs whose proposals are these boxes, a level each of ``logits`` and ``boxes``."""
    anchors = tuple(jnp.asarray(level, jnp.float32)[None] for level in boxes)
    scores = tuple(jnp.asarray(level, jnp.float32)[None] for level in logits)
    return RPNOutputs(
        scores, tuple(map(jnp.zeros_like, anchors)), anchors, tuple(jnp.ones(x.shape, bool) for x in scores)
    )


@pytest.mark.parametrize("train, expected", [(True, [9, 8, 7, 6, 4]), (False, [9, 8, 6])])
def test_training_has_limits_of_its_own(train, expected):
    """Of each level the 3 (at inference 2) best logits, of all levels the 5 (3) best scores."""
    config = RPNConfig(pre_nms_top_n_train=3, pre_nms_top_n_test=2, post_nms_top_n_train=5, post_nms_top_n_test=3)
    boxes = np.array([[20 * i, 0, 20 * i + 10, 10] for i in range(5)])
    outputs = _levels([[9, 8, 7, 1, 0], [6, 4, 3, 2, 0]], [boxes, boxes + 100])
    found = _select(outputs, (200, 200), config, train=train)
    np.testing.assert_allclose(found.scores[0], jax.nn.sigmoid(jnp.array(expected, jnp.float32)), rtol=1e-6)
    assert found.valid.all()


def test_a_score_of_the_threshold_and_a_side_of_a_thousandth_are_kept():
    boxes = [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 60 + 2**-9, 10], [80, 0, 80 + 2**-11, 10]]
    outputs = _levels([[3, 0, -1, 2, 1]], [boxes])
    found = _select(outputs, (100, 100), RPNConfig(score_thresh=0.5))
    kept = np.asarray(found.boxes[0])[np.asarray(found.valid[0])]
    np.testing.assert_allclose(kept[:, 0], [0, 60, 20])


def test_no_gradient_flows_through_proposals():
    outputs = _levels([[3, 2]], [[[0, 0, 10, 10], [20, 0, 30, 10]]])

    def total(outputs):
        found = _select(outputs, (100, 100), RPNConfig())
        return found.boxes.sum() + found.scores.sum()

    gradient = jax.grad(total, allow_int=True)(outputs)
    assert not any(leaf.any() for part in (gradient.logits, gradient.deltas, gradient.anchors) for leaf in part)


def test_levels_follow_the_size():
    sides = np.array([10.0, 111.9, 112.0, 223.9, 224.0, 448.0, 2000.0])
    boxes = jnp.asarray(np.stack([0 * sides, 0 * sides, sides, sides], 1), jnp.float32)
    np.testing.assert_array_equal(assign_levels(boxes, (4, 8, 16, 32)), [0, 0, 1, 1, 2, 3, 3])
    np.testing.assert_array_equal(assign_levels(boxes, (8, 16, 32)), [0, 0, 0, 0, 1, 2, 2])
    assert int(assign_levels(jnp.full((1, 4), jnp.nan), (4, 8))[0]) == 0


def test_an_area_rounded_below_a_level_still_reaches_it():
    """torchvision adds 1e-6 before rounding down, more than a few units in the last place of an area."""
    width, height = np.float32(6), np.float32(224 * 224 / 6) - 4 * np.spacing(np.float32(224 * 224 / 6))
    assert np.float32(4) + np.log2(np.sqrt(width * height) / np.float32(224)) < 4
    assert assign_levels(jnp.array([[0, 0, width, height]]), (4, 8, 16, 32)).tolist() == [2]
    assert assign_levels(jnp.array([[0, 0, 223.99, 223.99]]), (4, 8, 16, 32)).tolist() == [1]


def test_proposals_beyond_the_last_map_give_zeros():
    """Three maps whose strides leave out 8: there are four sizes of proposals, as in torchvision."""
    maps = [jnp.ones((1, side, side, 2)) for side in (64, 16, 8)]
    sides = jnp.array([40.0, 120, 240, 500])
    boxes = jnp.stack([0 * sides, 0 * sides, sides, sides], -1)[None]
    pooled = jax.jit(lambda *args: pool_proposals(*args, (4, 16, 32), output_size=2))(
        maps, boxes, jnp.ones((1, 4), bool)
    )
    np.testing.assert_array_equal(pooled.max((2, 3, 4))[0] > 0, [True, True, True, False])

"""Post-processing and proposals against plain loops, with NaN in every padded slot."""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.heads import BoxConfig, RoIOutputs, RPNConfig, RPNOutputs, assign_levels, postprocess, select_proposals
from jaxdet.ops import BoxCoder, box_iou
from jaxdet.types import Proposals


def _greedy(boxes, scores, groups, threshold, limit):
    order, kept = list(np.argsort(-scores, kind="stable")), []
    iou = np.asarray(box_iou(jnp.asarray(boxes), jnp.asarray(boxes)))
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
    decoded = np.array(BoxCoder(config.reg_weights).decode(jnp.asarray(deltas), jnp.asarray(boxes)[:, None]))
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


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("limit, first", [(100, 2048), (10, 12), (100, 20)], ids=["all", "few", "overflow"])
def test_detections_equal_a_plain_loop(agnostic, limit, first, monkeypatch):
    monkeypatch.setattr(sys.modules["jaxdet.heads.postprocess"], "FAST_CANDIDATES", first)
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
    found = postprocess(outputs, padded, jnp.asarray(size)[None], config)
    keep = np.asarray(found.valid[0])
    b, s, k = _expected(boxes, logits, deltas, size, config)
    np.testing.assert_array_equal(np.asarray(found.labels[0])[keep], k)
    np.testing.assert_allclose(np.asarray(found.scores[0])[keep], s, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(found.boxes[0])[keep], b, atol=1e-3)
    assert not np.asarray(found.boxes[0])[~keep].any()


def test_an_image_without_proposals_has_no_detections():
    none = Proposals(jnp.full((1, 3, 4), jnp.nan), jnp.zeros((1, 3)), jnp.zeros((1, 3), bool))
    outputs = RoIOutputs(jnp.zeros((1, 3, 2)), jnp.zeros((1, 3, 2, 4)))
    assert not postprocess(outputs, none, jnp.array([[10, 10]]), BoxConfig()).valid.any()


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
        boxes = np.array(BoxCoder().decode(jnp.asarray(de), jnp.asarray(a)))
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
    found = select_proposals(outputs, jnp.asarray(size)[None], config)
    expected = sorted(expected, key=lambda row: -row[0])[:25]
    keep = np.asarray(found.valid[0])
    assert keep.sum() == len(expected)
    np.testing.assert_allclose(np.asarray(found.scores[0])[keep], [s for s, _ in expected], rtol=1e-5)
    np.testing.assert_allclose(np.asarray(found.boxes[0])[keep], [b for _, b in expected], atol=1e-3)


def test_levels_follow_the_size():
    sides = np.array([10.0, 111.9, 112.0, 223.9, 224.0, 448.0, 2000.0])
    boxes = jnp.asarray(np.stack([0 * sides, 0 * sides, sides, sides], 1), jnp.float32)
    np.testing.assert_array_equal(assign_levels(boxes, (4, 8, 16, 32)), [0, 0, 1, 1, 2, 3, 3])
    np.testing.assert_array_equal(assign_levels(boxes, (8, 16, 32)), [0, 0, 0, 0, 1, 2, 2])
    assert int(assign_levels(jnp.full((1, 4), jnp.nan), (4, 8))[0]) == 0

"""Which anchors and proposals are sampled where there are regions to be ignored, worked out by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.heads import BoxConfig, RPNConfig
from jaxdet.models.faster_rcnn.targets import sample_anchors, sample_proposals
from jaxdet.types import Targets

# An object, a region that ends at x = 100, and a slot of padding.
TARGETS = Targets(
    jnp.array([[0.0, 0, 20, 20], [60, 0, 100, 40], [np.nan] * 4]),
    jnp.array([2, 0, 9]),
    jnp.array([True, False, False]),
    jnp.array([False, True, False]),
)
BOXES = jnp.array(
    [
        [0.0, 0, 20, 20],  # the object
        [60, 0, 80, 20],  # within the region
        [90, 0, 110, 20],  # half of it
        [91, 0, 111, 20],  # less than half of it
        [0, 60, 20, 80],  # far from everything
        [50, 0, 110, 40],  # it holds the region, of which it is two thirds
    ]
)
KNOWN = jnp.ones(len(BOXES), bool)
KEY = jax.random.key(0)


@pytest.mark.parametrize("thresh, negative", [(0.5, [3, 4]), (0.95, [2, 3, 4, 5]), (None, [1, 2, 3, 4, 5])])
def test_anchors_in_a_region_are_no_background(thresh, negative):
    config = RPNConfig(batch_size_per_image=12, ignore_thresh=thresh)
    sampled = sample_anchors(KEY, BOXES, KNOWN, TARGETS, config)
    chosen = np.asarray(sampled.indices)[np.asarray(sampled.valid & ~sampled.positive)]
    assert sorted(chosen.tolist()) == negative
    assert np.asarray(sampled.indices)[np.asarray(sampled.valid & sampled.positive)].tolist() == [0]


def test_proposals_in_a_region_are_no_background():
    config = BoxConfig(batch_size_per_image=16, positive_fraction=0.5)
    sampled = sample_proposals(KEY, BOXES, KNOWN, TARGETS, config)
    labels, boxes = np.asarray(sampled.labels), np.asarray(sampled.boxes)[np.asarray(sampled.valid)]
    assert sorted(labels[np.asarray(sampled.valid)].tolist()) == [0, 0, 2, 2]  # the object joins the proposals
    assert np.isfinite(boxes).all()
    assert sorted(boxes[:, 0].tolist()) == [0, 0, 0, 91]


def test_without_regions_nothing_changes():
    config = RPNConfig(batch_size_per_image=12)
    none = Targets(TARGETS.boxes, TARGETS.labels, TARGETS.valid)
    empty = Targets(TARGETS.boxes, TARGETS.labels, TARGETS.valid, jnp.zeros(3, bool))
    jax.tree.map(
        np.testing.assert_array_equal,
        sample_anchors(KEY, BOXES, KNOWN, none, config)[:2],
        sample_anchors(KEY, BOXES, KNOWN, empty, config)[:2],
    )


def test_an_object_without_a_good_anchor_takes_its_best_one():
    """Of overlap 1/2; the target moves it by half its height and doubles that."""
    anchors = jnp.array([[60.0, 60, 80, 80], [0, 0, 20, 10], [0, 0, 20, 5]])
    config = RPNConfig(batch_size_per_image=4)
    sampled = jax.jit(lambda anchors: sample_anchors(KEY, anchors, KNOWN[:3], TARGETS, config))(anchors)
    chosen = np.asarray(sampled.positive)
    assert np.asarray(sampled.indices)[chosen].tolist() == [1]
    np.testing.assert_allclose(np.asarray(sampled.deltas)[chosen], [[0, 0.5, 0, np.log(2)]], atol=1e-6)


def test_proposals_aim_by_the_weights_of_the_second_stage():
    proposals = jnp.array([[0.0, 0, 20, 16], [60, 60, 80, 80]])
    config = BoxConfig(batch_size_per_image=8, positive_fraction=0.5)

    def total(proposals):
        sampled = sample_proposals(KEY, proposals, KNOWN[:2], TARGETS, config)
        return sampled.boxes.sum(), sampled

    (_, sampled), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(proposals)
    row = np.flatnonzero(np.asarray(sampled.valid) & (np.asarray(sampled.boxes)[:, 3] == 16))
    expected = [[0, 10 * 2 / 16, 0, 5 * np.log(20 / 16)]]
    np.testing.assert_allclose(np.asarray(sampled.deltas)[row], expected, atol=1e-6)
    assert not gradient.any()

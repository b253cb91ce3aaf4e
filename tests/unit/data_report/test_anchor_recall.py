"""How well anchors fit boxes: by hand, and against all anchors there are."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.data_report import anchor_recall
from jaxdet.data_report.anchor_recall import best_anchor_ious, recall_of
from jaxdet.heads import AnchorGenerator

EXTENT = (64, 96)


@pytest.mark.parametrize(
    ("box", "iou"),
    [
        ((0, 0, 16, 16), 1.0),  # the small anchor around (8, 8)
        ((4, 0, 20, 16), 0.6),  # half way between two: 12 * 16 of 2 * 256 - 192
        ((0, 8, 32, 24), 0.5),  # half of the large one, twice the small one
        ((6, 6, 10, 10), 1 / 16),
        ((92, 0, 96, 16), 0.25),  # the last centre is at x = 88; a quarter of the anchor there lies on the box
        ((-40, -40, -30, -30), 0.0),
    ],
)
def test_by_hand(box, iou):
    generator = AnchorGenerator(((16,), (32,)), (1.0,))
    found = best_anchor_ious(np.array([box], np.float64), np.array([EXTENT]), generator, (8, 16))
    np.testing.assert_allclose(found, [iou], rtol=1e-12)


def test_it_is_the_best_of_all_anchors(monkeypatch):
    monkeypatch.setattr(anchor_recall, "_CHUNK", 7)
    generator = AnchorGenerator(((24, 37), (64, 90)), (0.5, 1.0, 2.0))
    strides = (32, 64)
    extents = np.array([(800, 352), (32, 64), (96, 32)])  # of 800 the second level has 13 rows, 61 pixels apart
    grids = [-(-extents // stride) for stride in strides]
    shapes = [tuple(grid.max(axis=0).tolist()) for grid in grids]
    anchors, valid = generator(shapes, jnp.asarray(extents), [jnp.asarray(grid) for grid in grids])
    every = np.concatenate([np.asarray(level) for level in anchors], axis=1)
    own = np.concatenate([np.asarray(level) for level in valid], axis=1)
    random = np.random.default_rng(0)
    for image, extent in enumerate(extents):
        corners = random.uniform(0, 1, (40, 2)) * extent[::-1]
        boxes = np.concatenate([corners, corners + random.uniform(4, 120, (40, 2))], axis=1)
        found = best_anchor_ious(boxes, np.tile(extent, (40, 1)), generator, strides)
        expected = [_ious(box, every[image][own[image]]).max() for box in boxes]
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def _ious(box, others):
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = sides.clip(0).prod(axis=1)
    return shared / ((box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1) - shared)


def test_recall_counts_the_threshold_itself():
    assert recall_of("a", np.array([0.2, 0.5, 0.7, 1.0]), (0.5, 0.7)).recalls == (0.75, 0.5)
    assert recall_of("a", np.zeros(0), (0.5,)).recalls == (1.0,)

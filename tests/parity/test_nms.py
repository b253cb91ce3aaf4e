"""NMS against torchvision's native operator."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.ops import batched_nms, greedy_nms, nms, nms_keep
from torchvision_cpu import torchvision_or_skip

torchvision = torchvision_or_skip()
import torch  # noqa: E402


def random_boxes(rng, count):
    centre, sides = rng.uniform(0, 400, (count, 2)), rng.uniform(5, 150, (count, 2))
    return np.concatenate([centre - sides / 2, centre + sides / 2], axis=1).astype(np.float32)


def listed(kept):
    return np.asarray(kept.indices)[np.asarray(kept.valid)].tolist()


@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_nms(threshold):
    rng = np.random.default_rng(0)
    run = jax.jit(lambda boxes, scores: nms(boxes, scores, threshold))
    for trial in range(30):
        boxes, scores = random_boxes(rng, 300), rng.uniform(size=300).astype(np.float32)
        if trial % 3 == 0:
            scores = scores.round(1)  # ties: torchvision's CPU sort is stable too
        expected = torchvision.ops.nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold)
        assert listed(run(boxes, scores)) == expected.tolist()


def test_batched_nms():
    rng = np.random.default_rng(1)
    count = 1100  # above 4,000 numbers torchvision loops over the classes instead of shifting the boxes
    run = jax.jit(lambda *args: batched_nms(*args, 0.5, max_outputs=200))
    run_greedy = jax.jit(lambda *args: greedy_nms(*args, 0.5, max_outputs=200))
    for _ in range(5):
        boxes, scores = random_boxes(rng, count), rng.permutation(count).astype(np.float32)
        classes = rng.integers(0, 7, count)
        tensors = [torch.from_numpy(array) for array in (boxes, scores, classes)]
        expected = torchvision.ops.batched_nms(*tensors, 0.5)[:200].tolist()
        assert listed(run(boxes, scores, classes.astype(np.int32))) == expected
        assert listed(run_greedy(boxes, scores, classes.astype(np.int32))) == expected


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.9])
def test_pairs_at_the_threshold(threshold):
    rng = np.random.default_rng(2)
    corner = rng.uniform(0, 300, (1500, 2)).astype(np.float32)
    first = np.concatenate([corner, corner + rng.uniform(5, 200, (1500, 2)).astype(np.float32)], axis=1)
    second = first.copy()
    second[:, 2] = first[:, 0] + (first[:, 2] - first[:, 0]) * np.float32(threshold)
    second[:, 2] += np.spacing(second[:, 2]) * rng.integers(-2, 3, 1500).astype(np.float32)
    pairs = np.stack([first, second], axis=1)
    keep = jax.jit(partial(nms_keep, iou_threshold=threshold))(pairs, valid=jnp.ones(pairs.shape[:2], bool))
    scores = torch.tensor([1.0, 0.5])
    expected = [len(torchvision.ops.nms(pair, scores, threshold)) == 2 for pair in torch.from_numpy(pairs)]
    np.testing.assert_array_equal(keep[:, 1], expected)

"""Matcher: hand-computed cases, padding, torchvision's assignments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.ops import Matcher


def as_codes(matches):
    """torchvision's form: the matched index, -1 below, -2 between."""
    return np.where(matches.positive, matches.index, np.where(matches.negative, -1, -2))


def all_valid(iou):
    return jnp.ones(iou.shape[0], bool)


def test_three_zones():
    iou = jnp.array([[0.1, 0.3, 0.7, 0.2], [0.2, 0.5, 0.1, 0.29]])
    matches = Matcher(0.5, 0.3)(iou, all_valid(iou))
    np.testing.assert_array_equal(as_codes(matches), [-1, 1, 0, -1])
    np.testing.assert_array_equal(as_codes(Matcher(0.6, 0.3)(iou, all_valid(iou))), [-1, -2, 0, -1])


def test_low_quality_match_goes_to_the_predictions_own_best():
    # Ground truth 1 reaches 0.4 with prediction 0 at best, but prediction 0 overlaps ground truth 0 more.
    iou = jnp.array([[0.45, 0.8, 0.0], [0.4, 0.1, 0.0]])
    matches = Matcher(0.7, 0.3, allow_low_quality_matches=True)(iou, all_valid(iou))
    np.testing.assert_array_equal(as_codes(matches), [0, 0, -1])


def test_low_quality_matches_include_ties():
    iou = jnp.array([[0.2, 0.2, 0.1]])
    matches = Matcher(0.7, 0.3, allow_low_quality_matches=True)(iou, all_valid(iou))
    np.testing.assert_array_equal(as_codes(matches), [0, 0, -1])


@pytest.mark.parametrize("low_quality", [False, True])
def test_without_ground_truth_everything_is_negative(low_quality):
    matcher = Matcher(0.7, 0.3, low_quality)
    for iou, valid in ((jnp.full((2, 3), jnp.nan), jnp.zeros(2, bool)), (jnp.zeros((0, 3)), jnp.zeros(0, bool))):
        np.testing.assert_array_equal(as_codes(matcher(iou, valid)), [-1, -1, -1])


@pytest.mark.parametrize("low_quality", [False, True])
def test_padding_changes_nothing(low_quality):
    rng = np.random.default_rng(0)
    matcher = jax.jit(Matcher(0.6, 0.3, low_quality))
    for _ in range(20):
        iou = rng.uniform(size=(4, 9)).astype(np.float32).round(1)
        gts, preds = rng.uniform(size=4) < 0.6, rng.uniform(size=9) < 0.7
        codes = as_codes(matcher(np.where(gts[:, None] & preds[None], iou, np.nan), gts, preds))
        # The same without padding: what is invalid overlaps nothing, and ties for nothing at all.
        dense = np.full((4, 9), -1, np.float32)
        dense[: gts.sum(), : preds.sum()] = iou[gts][:, preds]
        expected = as_codes(matcher(dense, np.arange(4) < gts.sum(), np.arange(9) < preds.sum()))[: preds.sum()]
        expected = np.where(expected >= 0, np.append(np.flatnonzero(gts), 0)[expected], expected)
        np.testing.assert_array_equal(codes[preds], expected)
        np.testing.assert_array_equal(codes[~preds], -2)


@pytest.mark.parametrize("low_quality", [False, True])
def test_equals_torchvision(low_quality):
    from torchvision_cpu import torchvision_or_skip

    torchvision_or_skip()
    import torch
    from torchvision.models.detection._utils import Matcher as Reference

    rng = np.random.default_rng(1)
    reference = Reference(0.7, 0.3, low_quality)
    matcher = jax.jit(Matcher(0.7, 0.3, low_quality))
    for trial in range(50):
        iou = rng.uniform(size=(5, 40)).astype(np.float32)
        iou = np.where(rng.uniform(size=iou.shape) < 0.5, 0, iou.round(1) if trial % 2 else iou)
        iou[trial % 5] *= trial % 3 > 0  # now and then a ground truth that overlaps nothing
        expected = reference(torch.from_numpy(iou)).numpy()
        np.testing.assert_array_equal(as_codes(matcher(iou, all_valid(iou))), expected)


def test_thresholds_in_the_wrong_order():
    with pytest.raises(ValueError, match="swap"):
        Matcher(0.3, 0.7)

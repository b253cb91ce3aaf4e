"""Balanced sampling: torchvision's counts, uniform draws, fixed shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.ops import sample_balanced


def masks(count, positives, negatives):
    order = np.random.default_rng(0).permutation(count)
    positive, negative = np.zeros(count, bool), np.zeros(count, bool)
    positive[order[:positives]] = True
    negative[order[positives : positives + negatives]] = True
    return positive, negative


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"),
    [(10, 30, (4, 12)), (2, 30, (2, 14)), (0, 30, (0, 16)), (10, 5, (4, 5)), (3, 0, (3, 0)), (0, 0, (0, 0))],
)
def test_counts(positives, negatives, expected):
    positive, negative = masks(40, positives, negatives)
    samples = sample_balanced(jax.random.key(0), positive, negative, 16, 0.25)
    indices, valid = np.asarray(samples.indices), np.asarray(samples.valid)
    is_positive = np.asarray(samples.is_positive)
    assert (is_positive.sum(), (valid & ~is_positive).sum()) == expected
    assert positive[indices[is_positive]].all() and negative[indices[valid & ~is_positive]].all()
    assert len(set(indices[valid])) == valid.sum()
    assert not is_positive[~valid].any() and not indices[~valid].any()


@pytest.mark.parametrize(("num", "expected"), [(6, (1, 5)), (7, (1, 6)), (3, (0, 3))])
def test_the_share_of_positives_is_rounded_down(num, expected):
    samples = sample_balanced(jax.random.key(0), *masks(40, 10, 30), num, 0.25)
    assert (samples.is_positive.sum(), (samples.valid & ~samples.is_positive).sum()) == expected


def test_more_slots_than_rows():
    samples = sample_balanced(jax.random.key(0), jnp.array([True, False]), jnp.array([False, True]), 6, 0.5)
    np.testing.assert_array_equal(samples.valid, [True, True, False, False, False, False])
    np.testing.assert_array_equal(samples.indices[:2], [0, 1])


def test_fraction_of_zero_takes_no_positive():
    samples = sample_balanced(jax.random.key(0), *masks(20, 5, 15), 8, 0.0)
    assert not samples.is_positive.any() and samples.valid.all()


def test_draws_are_uniform_and_depend_on_the_key():
    positive, negative = masks(12, 4, 8)
    draw = jax.jit(jax.vmap(lambda key: sample_balanced(key, positive, negative, 4, 0.5)))
    samples = draw(jax.random.split(jax.random.key(0), 4000))
    counts = np.bincount(np.asarray(samples.indices).ravel(), minlength=12)
    # 2 of 4 positives and 2 of 8 negatives: standard deviations are 32 and 27.
    assert np.abs(counts[positive] - 2000).max() < 160
    assert np.abs(counts[negative] - 1000).max() < 140


@pytest.mark.parametrize(("num", "fraction"), [(0, 0.5), (4, 1.5)])
def test_impossible_requests(num, fraction):
    with pytest.raises(ValueError, match="sample_balanced"):
        sample_balanced(jax.random.key(0), jnp.ones(3, bool), jnp.zeros(3, bool), num, fraction)

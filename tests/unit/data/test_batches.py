"""The batch plan's promises."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdet.data import BatchPlan, DataError, canvases, choose_canvas, eval_plan
from jaxdet.data.batching.sizing import ShortestSide
from jaxdet.ops.resize import resized_size

SIZES = st.lists(st.tuples(st.integers(20, 700), st.integers(20, 700)), min_size=1, max_size=80)
SIZING = ShortestSide((96,), 160)


def _needed(size):
    return resized_size(*size, 96, 160)


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(1, 9), st.integers(0, 5), st.booleans())
def test_every_epoch_has_each_image_once_up_to_the_remainder(sizes, batch_size, seed, square):
    choices = canvases(96, 160, square=square)
    try:
        plan = BatchPlan(np.array(sizes), batch_size, ShortestSide((96,), 160, square), seed=seed)
    except DataError:
        assert len(sizes) < batch_size or (not square and len(sizes) <= 2 * (batch_size - 1))
        return
    for epoch in range(2):
        seen = Counter()
        for step in range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch):
            batch = plan.batch(step)
            assert batch.epoch == epoch and batch.canvas in choices
            assert batch.indices.shape == (batch_size,) and batch.indices.dtype == np.int32
            for index in batch.indices.tolist():
                height, width = _needed(sizes[index])
                assert height <= batch.canvas[0] and width <= batch.canvas[1]
            seen.update(batch.indices.tolist())
        assert set(seen.values()) == {1}
        dropped = len(sizes) - len(seen)
        assert dropped < batch_size if square else dropped <= 2 * (batch_size - 1)


def test_only_leftovers_ride_on_a_larger_canvas():
    generator = np.random.default_rng(0)
    sizes = generator.integers(100, 700, (400, 2))
    choices = canvases(96, 160)
    plan = BatchPlan(sizes, 8, SIZING)
    moved = sum(
        plan.batch(step).canvas != choose_canvas(_needed(sizes[index]), choices)
        for step in range(plan.steps_per_epoch)
        for index in plan.batch(step).indices
    )
    assert moved < 8 * len(choices)


def test_any_start_and_order_of_calls_gives_the_same_batches():
    sizes = np.random.default_rng(1).integers(50, 200, (53, 2))
    plan = BatchPlan(sizes, 4, SIZING, seed=3)
    forward = [plan.batch(step) for step in range(40)]
    other = BatchPlan(sizes, 4, SIZING, seed=3)  # as another host would make it
    for step in [39, 0, 17, 5, 38, 39, 21]:
        assert other.batch(step).canvas == forward[step].canvas
        np.testing.assert_array_equal(other.batch(step).indices, forward[step].indices)


def test_order_changes_with_seed_and_epoch():
    sizes = np.full((64, 2), 100)

    def epoch(seed, number):
        plan = BatchPlan(sizes, 4, ShortestSide((96,), 96), seed=seed)
        assert plan.steps_per_epoch == 16
        return np.concatenate([plan.batch(step).indices for step in range(number * 16, number * 16 + 16)]).tolist()

    orders = [epoch(0, 0), epoch(0, 1), epoch(1, 0), epoch(1, 1), list(range(64))]
    assert all(sorted(order) == list(range(64)) for order in orders)
    assert len({tuple(order) for order in orders}) == 5


def test_opposite_orientations_never_share_a_canvas():
    sizes = np.array([(100, 150)] * 10 + [(150, 100)] * 10)
    plan = BatchPlan(sizes, 5, SIZING)
    assert plan.steps_per_epoch == 4
    for step in range(8):
        batch = plan.batch(step)
        landscape = batch.indices < 10
        assert landscape.all() or not landscape.any()
        assert batch.canvas == ((96, 160) if landscape.all() else (160, 96))


def test_leftovers_of_both_orientations_meet_on_the_square():
    sizes = np.array([(100, 150)] * 3 + [(150, 100)] * 3)
    with pytest.raises(DataError, match=r"6 images do not fill a batch of 6 .*square=True"):
        BatchPlan(sizes, 6, SIZING)
    plan = BatchPlan(sizes, 6, ShortestSide((96,), 160, square=True))
    assert plan.steps_per_epoch == 1 and plan.batch(0).canvas == (160, 160)
    assert sorted(plan.batch(0).indices.tolist()) == list(range(6))


def test_the_plan_is_pinned():
    """Runs that continue on another machine rely on these very numbers."""
    plan = BatchPlan(np.full((8, 2), 100), 4, ShortestSide((96,), 96), seed=7)
    assert [plan.batch(step).indices.tolist() for step in (0, 1, 100)] == [[3, 1, 4, 5], [0, 2, 6, 7], [2, 1, 7, 5]]


def test_arguments_out_of_range():
    sizes = np.full((8, 2), 100)
    for batch_size, seed in ((0, 0), (2, -1)):
        with pytest.raises(ValueError, match="at least"):
            BatchPlan(sizes, batch_size, SIZING, seed=seed)
    with pytest.raises(ValueError, match="at least 0, got -1"):
        BatchPlan(sizes, 2, SIZING).batch(-1)
    with pytest.raises(DataError, match=r"image 1 of the dataset \(from 0\): .* 3000 x 2 would be resized to 160 x 0"):
        BatchPlan(np.array([[50, 50], [2, 3000]]), 1, SIZING)


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(1, 9))
def test_evaluation_covers_each_image_once_in_order(sizes, batch_size):
    plan = eval_plan(np.array(sizes), batch_size, SIZING)
    by_canvas = {}
    for step in range(len(plan)):
        batch = plan.batch(step)
        assert batch.indices.shape == (batch_size,)
        real = batch.indices[batch.indices >= 0]
        assert len(real) and (batch.indices[len(real) :] == -1).all()
        by_canvas.setdefault(batch.canvas, []).extend(real.tolist())
    assert sorted(index for members in by_canvas.values() for index in members) == list(range(len(sizes)))
    for canvas, members in by_canvas.items():
        assert members == sorted(members)
        assert all(choose_canvas(_needed(sizes[i]), canvases(96, 160)) == canvas for i in members)
    with pytest.raises(IndexError):
        plan.batch(len(plan))

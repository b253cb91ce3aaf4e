"""The loader against the same steps taken one by one."""

import threading
import time

import numpy as np
import pytest

from jaxdet.data import BatchPlan, CocoDataset, DataError, eval_plan, load_batch, load_batches, preprocess
from jaxdet.data.augment.augmentation import Augmentation
from jaxdet.data.batching.sizing import ShortestSide

SIZING = ShortestSide((48,), 64)
FLIP = Augmentation(flip=0.5)


@pytest.fixture
def dataset(many_images):
    return CocoDataset(*many_images)


@pytest.fixture
def plan(dataset):
    return BatchPlan(dataset.sizes, 4, SIZING, seed=1)


def _assert_equal(a, b):
    assert a.step == b.step
    np.testing.assert_array_equal(a.indices, b.indices)
    for one, other in ((a.images, b.images), (a.targets, b.targets)):
        for name in vars(one):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_one_batch_by_hand(dataset, plan):
    batch = load_batch(dataset, plan, 3)
    planned = plan.batch(3)
    assert batch.images.pixels.shape == (4, *planned.canvas, 3) and batch.images.pixels.dtype == np.float32
    assert batch.targets.boxes.shape == (4, 8, 4) and batch.targets.boxes.dtype == np.float32
    assert batch.targets.labels.dtype == np.int32 and batch.targets.valid.dtype == bool
    assert batch.images.sizes.dtype == np.int32
    for row, index in enumerate(planned.indices):
        example = dataset[index]
        image = preprocess(example.image, 48, 64)
        height, width = image.shape[:2]
        assert batch.images.sizes[row].tolist() == [height, width]
        np.testing.assert_array_equal(batch.images.pixels[row, :height, :width], image)
        assert not batch.images.pixels[row, height:].any() and not batch.images.pixels[row, :, width:].any()
        count = len(example.labels)
        assert batch.targets.valid[row].tolist() == [True] * count + [False] * (8 - count)
        ratio = np.array([width, height] * 2) / np.array(example.image.shape[1::-1] * 2)
        np.testing.assert_allclose(batch.targets.boxes[row, :count], example.boxes * ratio, rtol=1e-6)
        assert batch.targets.labels[row, :count].tolist() == example.labels.tolist()


def test_a_flip_is_the_first_draw_of_seed_step_and_row(dataset, plan):
    """Runs that continue rely on these very draws."""
    for step in range(6):
        batch, plain = load_batch(dataset, plan, step, augmentation=FLIP), load_batch(dataset, plan, step)
        for row in range(4):
            draw = np.random.Generator(np.random.PCG64(np.random.SeedSequence(1, spawn_key=(1, step, row)))).random()
            height, width = plain.images.sizes[row]
            expected = dataset[int(plain.indices[row])].image[:, :: -1 if draw < 0.5 else 1]
            np.testing.assert_array_equal(batch.images.pixels[row, :height, :width], preprocess(expected, 48, 64))


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("start", [0, 5])
def test_threads_and_start_change_nothing(dataset, plan, threads, start):
    expected = [load_batch(dataset, plan, step, augmentation=FLIP) for step in range(start, start + 12)]
    loaded = list(load_batches(dataset, plan, start, 12, augmentation=FLIP, threads=threads))
    assert len(loaded) == 12 and plan.steps_per_epoch < 12
    for a, b in zip(loaded, expected, strict=True):
        _assert_equal(a, b)


def test_hosts_load_their_rows_of_the_same_batch(dataset, plan):
    whole = load_batch(dataset, plan, 2, augmentation=FLIP)
    halves = [load_batch(dataset, plan, 2, augmentation=FLIP, rows=slice(n, n + 2)) for n in (0, 2)]
    for name in ("pixels", "sizes"):
        joined = np.concatenate([getattr(half.images, name) for half in halves])
        np.testing.assert_array_equal(joined, getattr(whole.images, name))
    np.testing.assert_array_equal(np.concatenate([half.indices for half in halves]), whole.indices)


def test_flips_are_mirrored_and_about_as_frequent_as_asked(dataset, plan):
    flipped = total = 0
    for step in range(12):
        plain, random, always = (
            load_batch(dataset, plan, step, augmentation=Augmentation(flip=flip)) for flip in (0.0, 0.5, 1.0)
        )
        for row in range(4):
            height, width = plain.images.sizes[row]
            mirrored = always.images.pixels[row, :height, :width]
            np.testing.assert_allclose(mirrored, plain.images.pixels[row, :height, :width][:, ::-1], atol=1e-4)
            same = np.array_equal(random.images.pixels[row], plain.images.pixels[row])
            assert same or np.array_equal(random.images.pixels[row], always.images.pixels[row])
            flipped += not same
            total += 1
            for box, other, valid in zip(
                plain.targets.boxes[row], always.targets.boxes[row], plain.targets.valid[row], strict=True
            ):
                if valid:
                    np.testing.assert_allclose(other, [width - box[2], box[1], width - box[0], box[3]], rtol=1e-5)
    assert 0.3 < flipped / total < 0.7


def test_evaluation_rows_without_an_image_are_empty(dataset):
    plan = eval_plan(dataset.sizes, 4, SIZING)
    batches = list(load_batches(dataset, plan, 0, len(plan)))
    indices = np.concatenate([batch.indices for batch in batches])
    assert sorted(indices[indices >= 0].tolist()) == list(range(37)) and (indices == -1).any()
    for batch in batches:
        for row in np.flatnonzero(batch.indices == -1):
            assert not batch.images.pixels[row].any() and not batch.targets.valid[row].any()
            assert batch.images.sizes[row].tolist() == [0, 0]


def test_too_many_boxes_are_named_at_once(dataset, plan):
    with pytest.raises(DataError, match=r"03\.png: image 13 has 3 boxes, more than max_boxes=2; raise .* at least 3"):
        load_batches(dataset, plan, 0, 1, max_boxes=2)
    with pytest.raises(DataError, match="more than max_boxes=0"):
        [load_batch(dataset, plan, step, max_boxes=0) for step in range(plan.steps_per_epoch)]
    batch = next(iter(load_batches(dataset, plan, 0, 1, max_boxes=3)))
    assert batch.targets.boxes.shape == (4, 3, 4)


@pytest.mark.parametrize("threads", [0, 2])
def test_an_unreadable_image_is_named(dataset, plan, threads):
    with open(dataset.records[int(plan.batch(1).indices[2])].path, "wb") as file:
        file.write(b"no image")
    batches = load_batches(dataset, plan, 0, 4, threads=threads)
    assert next(batches).step == 0
    with pytest.raises(DataError, match="cannot be decoded as an image"):
        next(batches)


def test_arguments_are_checked_at_once(dataset, plan):
    with pytest.raises(ValueError, match="no negative number, got start_step=-1"):
        load_batches(dataset, plan, -1, 1)
    with pytest.raises(ValueError, match="probability from 0 to 1, got 2"):
        Augmentation(flip=2)
    with pytest.raises(DataError, match="the plan is for 8 images, but the dataset has 37"):
        load_batches(dataset, BatchPlan(np.full((8, 2), 50), 4, SIZING), 0, 1)
    assert list(load_batches(dataset, plan, 3, 0)) == []


def test_an_abandoned_loader_gives_up_after_the_images_under_way(dataset, plan, monkeypatch):
    read, gate, held = type(dataset).__getitem__, threading.Event(), []

    def gated(self, index):
        if index not in plan.batch(0).indices:
            held.append(index)
            assert gate.wait(10)
        return read(self, index)

    monkeypatch.setattr(type(dataset), "__getitem__", gated)
    before = threading.active_count()
    batches = load_batches(dataset, plan, 0, 10_000, threads=2, prefetch=8)
    assert next(batches).step == 0
    _wait_until(lambda: len(held) == 2)  # both threads are at the first image of steps 1 and 2
    batches.close()
    gate.set()
    _wait_until(lambda: threading.active_count() <= before)
    assert len(held) == 2


def _wait_until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)

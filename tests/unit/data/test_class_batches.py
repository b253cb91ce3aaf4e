"""Batches of labelled images, for training and for evaluation."""

import jax
import numpy as np
import pytest
from data_draws import Draws
from PIL import Image

from jaxdet.data import (
    Augmentation,
    BatchPlan,
    ClassAugmentation,
    ClassificationDataset,
    DataError,
    centre_crop,
    eval_plan,
    load_batch,
    load_batches,
)
from jaxdet.data.augment.augmentation import random_crop
from jaxdet.data.batching.sizing import ShortestSide, SquareCrop
from jaxdet.data.formats.class_folder import LabelledPath

SIZING = SquareCrop(resize=20, crop=16)


@pytest.fixture
def dataset(tmp_path):
    """Eleven images of three classes and of four sizes."""
    records = []
    for number in range(11):
        height, width = ((24, 30), (50, 18), (16, 16), (12, 40))[number % 4]
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)).save(path)
        records.append(LabelledPath(str(path), number % 3))
    return ClassificationDataset(records, ("ant", "bee", "cat"))


def test_evaluation_takes_the_centre_of_every_image_once(dataset):
    plan = eval_plan(len(dataset), 4, SIZING)
    batches = list(load_batches(dataset, plan, 0, len(plan)))
    assert [batch.indices.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, -1]]
    assert [batch.targets.tolist() for batch in batches] == [[0, 1, 2, 0], [1, 2, 0, 1], [2, 0, 1, -1]]
    for batch in batches:
        assert batch.images.pixels.shape == (4, 16, 16, 3) and batch.images.pixels.dtype == np.float32
        assert batch.targets.dtype == np.int32 and batch.images.sizes.tolist() == [[16, 16]] * 4
        for row, index in enumerate(batch.indices[batch.indices >= 0].tolist()):
            np.testing.assert_array_equal(batch.images.pixels[row], centre_crop(dataset[index].image, 20, 16))
    assert not batches[2].images.pixels[3].any()


def test_training_draws_by_seed_step_and_row(dataset):
    plan, augmentation = BatchPlan(len(dataset), 4, SIZING, seed=2), ClassAugmentation()
    batches = list(load_batches(dataset, plan, 0, 5, augmentation=augmentation, mean=(0, 0, 0), std=(1, 1, 1)))
    first_epoch = np.concatenate([batch.indices for batch in batches[:2]])
    assert plan.steps_per_epoch == 2 and len(set(first_epoch.tolist())) == 8
    for batch in batches:
        for row, index in enumerate(batch.indices.tolist()):
            key = np.random.SeedSequence(2, spawn_key=(1, batch.step, row))
            cropped = augmentation(dataset[index].image, 16, np.random.Generator(np.random.PCG64(key)))
            np.testing.assert_allclose(batch.images.pixels[row], cropped / np.float32(255), atol=1e-6)
            assert batch.targets[row] == index % 3


def test_a_worker_loads_the_same(dataset):
    plan, augmentation = BatchPlan(len(dataset), 4, SIZING), ClassAugmentation()
    expected = [load_batch(dataset, plan, step, augmentation=augmentation) for step in range(4)]
    for one, other in zip(
        load_batches(dataset, plan, 0, 4, augmentation=augmentation, workers=1), expected, strict=True
    ):
        jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_crop_by_hand():
    # Half the area at a ratio of 1: sqrt(50 * 80 / 2) = 44.7 pixels a side, 5 rows and 35 columns to spare.
    draws = (0.5, 0.5, 0.9, 0.5)
    assert random_crop(50, 80, (0.0, 1.0), (0.5, 2.0), Draws(*draws)) == (5, 18, 45, 45)
    # A first attempt of the whole area at a ratio of 2 is 89 wide and does not fit.
    assert random_crop(50, 80, (0.0, 1.0), (0.5, 2.0), Draws(1.0, 1.0, *draws)) == (5, 18, 45, 45)


def test_a_crop_as_large_as_the_image_fits():
    assert random_crop(50, 50, (0.0, 1.0), (0.5, 2.0), Draws(1.0, 0.5, 0.9, 0.9)) == (0, 0, 50, 50)


def test_ratios_are_drawn_evenly_in_their_logarithm():
    """From 1 to 4 the middle is 2: of 3200 pixels 80 x 40."""
    assert random_crop(80, 80, (0.0, 1.0), (1.0, 4.0), Draws(0.5, 0.5, 0.0, 0.0)) == (0, 0, 40, 80)


def test_after_ten_attempts_the_centre():
    for size, expected in (((50, 80), (0, 6, 50, 67)), ((80, 50), (6, 0, 67, 50)), ((50, 60), (0, 0, 50, 60))):
        draws = Draws(*[1.0, 0.5] * 10) if size[0] != size[1] else Draws()
        assert random_crop(*size, (2.0, 2.0), (3 / 4, 4 / 3), draws) == expected
        assert not draws.numbers


def test_crops_stay_within_their_ranges():
    generator = np.random.default_rng(0)
    for _ in range(300):
        top, left, height, width = random_crop(60, 90, (0.2, 0.5), (3 / 4, 4 / 3), generator)
        assert 0 <= top <= 60 - height and 0 <= left <= 90 - width
        assert 0.18 < height * width / 5400 < 0.53 and 0.72 < width / height < 1.4


def test_kinds_of_data_and_of_augmentation_do_not_mix(dataset):
    plan = BatchPlan(len(dataset), 4, SIZING)
    with pytest.raises(ValueError, match="has labels: it needs a ClassAugmentation"):
        load_batch(dataset, plan, 0, augmentation=Augmentation())
    boxes = BatchPlan(np.full((11, 2), 30), 4, ShortestSide((32,), 64))
    with pytest.raises(ValueError, match="a plan with a SquareCrop, not ShortestSide"):
        load_batch(dataset, boxes, 0)
    with pytest.raises(DataError, match="the plan is for 10 images, but the dataset has 11"):
        load_batches(dataset, BatchPlan(10, 4, SIZING), 0, 1)
    for fields in ({"scale": (0.5, 1.5)}, {"ratio": (0.0, 1.0)}, {"scale": (0.0, 1.0)}, {"flip": 2.0}):
        with pytest.raises(ValueError, match=f"expected {next(iter(fields))} to be a"):
            ClassAugmentation(**fields)


def test_an_unreadable_image_is_named(dataset):
    with open(dataset.records[6].path, "wb") as file:
        file.write(b"no image")
    with pytest.raises(DataError, match=r"6\.png: cannot be decoded"):
        list(load_batches(dataset, eval_plan(11, 4, SIZING), 0, 3))

"""Augmentations of detection images against values worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from data_draws import Draws

from jaxdet.data import (
    BatchPlan,
    BrightnessContrast,
    CocoDataset,
    DataError,
    Example,
    RGBShift,
    horizontal_flip,
    load_batch,
    load_batches,
)
from jaxdet.data.augment.augmentation import Augmentation
from jaxdet.data.augment.photometric import adjust_levels, photometric_distort, shift_rgb
from jaxdet.data.batching.detection_rows import box_slots
from jaxdet.data.batching.sizing import ScaleJitter, ShortestSide
from jaxdet.data.objects import no_boxes


class _Transform:
    min_size, max_size, enlarge = 48, 64, True


def _example(height=4, width=6):
    image = np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)
    return Example(
        image=image, boxes=np.float32([[1, 0, 3, 2]]), labels=np.int32([5]), image_id=3, path="a.png",
        ignored=np.float32([[0, 1, 6, 4]]),
    )  # fmt: skip


def test_a_flip_takes_the_ignored_regions_along():
    flipped = Augmentation(flip=0.3)(_example(), Draws(0.29))
    np.testing.assert_array_equal(flipped.image, _example().image[:, ::-1])
    np.testing.assert_array_equal(flipped.boxes, [[3, 0, 5, 2]])
    np.testing.assert_array_equal(flipped.ignored, [[0, 1, 6, 4]])
    same = Augmentation(flip=0.3)(_example(), Draws(0.3))
    np.testing.assert_array_equal(same.boxes, _example().boxes)


def test_own_functions_come_after_all_others_and_in_their_order():
    def recolour(example, generator):
        return replace(example, image=np.full_like(example.image, int(generator.random() * 100)))

    def relabel(example, generator):
        return replace(example, labels=example.labels + example.image[0, 0, 0])

    changed = Augmentation(flip=1.0, extra=(recolour, relabel))(_example(), Draws(0.0, 0.07))
    assert (changed.image == 7).all() and changed.labels.tolist() == [12]
    np.testing.assert_array_equal(changed.boxes, horizontal_flip(_example()).boxes)


def test_colours_by_hand():
    grey = np.full((2, 2, 3), 100, np.uint8)
    ranges = dict.fromkeys(("brightness", "contrast", "saturation"), (0.5, 1.5))

    def distorted(image, chosen, values, contrast_first=0.0, order=(0.1, 0.2, 0.3)):
        chances = [0.0 if name in chosen else 0.9 for name in "bcshp"]
        return photometric_distort(image, Draws(*chances, *values, contrast_first, *order), 0.5, **ranges)

    middle = (0.5,) * 4
    np.testing.assert_array_equal(distorted(grey, "", middle), grey)
    assert (distorted(grey, "b", (0.0, *middle[:3])) == 50).all()
    two = np.uint8([[[50] * 3, [150] * 3]])
    assert distorted(two, "c", (0.5, 0.0, 0.5, 0.5))[0, :, 0].tolist() == [75, 125]  # half the distance from the mean
    red = np.uint8([[[200, 100, 0]]])
    np.testing.assert_array_equal(distorted(red, "p", middle, order=(0.9, 0.5, 0.1)), red[..., ::-1])
    luminance = round(0.299 * 200 + 0.587 * 100)  # 118
    assert distorted(red, "s", (0.5, 0.5, 0.0, 0.5)).tolist() == [[[159, 109, luminance // 2]]]


@pytest.mark.parametrize(
    "ranges, expected",
    [
        ({"brightness": (0.5, 0.5)}, [[100, 50, 0], [50, 50, 50]]),
        ({"contrast": (0.0, 0.0)}, [[109, 109, 109]] * 2),  # the mean of the luminances
        ({"saturation": (0.0, 0.0)}, [[118, 118, 118], [100, 100, 100]]),
        ({"hue": (0.5, 0.5)}, [[0, 100, 200], [100, 100, 100]]),
    ],
)
def test_each_range_reaches_its_distortion(ranges, expected):
    neutral = {"brightness": (1.0, 1.0), "contrast": (1.0, 1.0), "saturation": (1.0, 1.0), "hue": (0.0, 0.0)}
    example = replace(_example(), image=np.uint8([[[200, 100, 0], [100, 100, 100]]]))
    draws = Draws(0.9, *[0.0] * 5, *[0.5] * 4, 0.0, 0.1, 0.2, 0.3)
    changed = Augmentation(flip=0.0, photometric=1.0, **neutral | ranges)(example, draws).image[0]
    np.testing.assert_allclose(changed.astype(int), expected, atol=5)  # of 256 hues, turned by 127


def test_distortion_is_about_as_frequent_as_asked_and_off_by_default():
    example = _example(8, 8)
    generator = np.random.default_rng(1)
    assert Augmentation(flip=0.0)(example, generator).image is example.image
    augmentation = Augmentation(flip=0.0, photometric=0.2)
    same = sum((augmentation(example, generator).image == example.image).all() for _ in range(200))
    assert 200 * 0.8**5 * 0.7 < same < 200 * 0.8**5 * 1.4


def test_the_sizing_of_a_model():
    assert Augmentation().sizing(_Transform, square=True) == ShortestSide((48,), 64, True)
    assert Augmentation(min_sizes=(32, 48)).sizing(_Transform) == ShortestSide((32, 48), 64)
    jitter = Augmentation(scale_jitter=(0.1, 2.0), jitter_size=(96, 64)).sizing(_Transform)
    assert jitter == ScaleJitter((0.1, 2.0), (96, 64))


def test_an_augmentation_is_hashable_and_checked():
    assert hash(Augmentation(extra=(len,))) == hash(Augmentation(extra=(len,))) and Augmentation() == Augmentation()
    for fields, message in (
        ({"flip": 1.2}, "flip to be a probability from 0 to 1, got 1.2"),
        ({"photometric": -0.1}, "photometric to be a probability"),
        ({"min_sizes": (480,), "scale_jitter": (0.1, 2.0)}, "give one of them"),
        ({"min_sizes": (480, 0)}, "at least 1 pixel"),
        ({"scale_jitter": (0.0, 2.0)}, "scale_jitter to be a rising pair of numbers above 0, got"),
        ({"scale_jitter": (2.0, 0.1)}, "rising pair"),
        ({"contrast": (-0.5, 1.0)}, "contrast to be a rising pair of numbers from 0, got"),
        ({"hue": (-0.6, 0.1)}, "hue to be a rising pair of numbers from -0.5 to 0.5"),
    ):
        with pytest.raises(ValueError, match=message):
            Augmentation(**fields)


def test_plan_and_augmentation_have_to_agree(many_images):
    dataset = CocoDataset(*many_images)
    plain = BatchPlan(dataset.sizes, 4, ShortestSide((48,), 64))
    several = BatchPlan(dataset.sizes, 4, ShortestSide((32, 48), 64))
    jitter = BatchPlan(dataset.sizes, 4, ScaleJitter((0.1, 2.0), (64, 64)))
    for plan, augmentation in (
        (plain, Augmentation(min_sizes=(32, 48))),
        (several, Augmentation()),
        (several, Augmentation(min_sizes=(40, 48))),
        (several, None),
        (jitter, None),
        (jitter, Augmentation(scale_jitter=(0.2, 2.0), jitter_size=(64, 64))),
    ):
        with pytest.raises(ValueError, match=r"use augmentation\.sizing"):
            load_batch(dataset, plan, 0, augmentation=augmentation)


def _doubled(example, generator):
    boxes, labels = (np.concatenate([part] * 4) for part in (example.boxes, example.labels))
    return replace(example, boxes=boxes, labels=labels)


def test_what_own_functions_return_is_checked_and_the_image_named(many_images):
    dataset = CocoDataset(*many_images)
    plan = BatchPlan(dataset.sizes, 4, ShortestSide((48,), 64))
    for function, message in (
        (
            _doubled,
            r"\.png: image \d+: an extra augmentation returned 12 boxes, more than max_boxes=8; raise",
        ),
        (lambda e, g: replace(e, image=e.image / 255), "returned an image float64"),
        (lambda e, g: replace(e, image=e.image[:0]), "returned an image uint8"),
        (lambda e, g: replace(e, labels=np.zeros(5, np.int32)), r"returned boxes \(\d, 4\), labels \(5,\)"),
        (lambda e, g: replace(e, boxes=e.boxes * np.nan), "a box that is not finite"),
        (lambda e, g: replace(e, boxes=e.boxes * 0), "returned a box without area"),
        (lambda e, g: replace(e, labels=e.labels + 1), r"returned labels \[.*3\]; they have to be from 1 to 2"),
    ):
        with pytest.raises(DataError, match=message):
            list(load_batches(dataset, plan, 0, plan.steps_per_epoch, augmentation=Augmentation(extra=(function,))))
    batch = load_batch(dataset, plan, 0, augmentation=Augmentation(extra=(_doubled,)), max_boxes=12)
    assert batch.targets.boxes.shape == (4, 12, 4)


def test_ignored_regions_lie_after_the_boxes(write_coco):
    dataset = CocoDataset(*write_coco({"a.png": (40, 50, [{"bbox": [1, 2, 10, 8], "category_id": 7}] * 3)}))
    record = replace(dataset.records[0], ignored=np.float32([[0, 0, 50, 40], [5, 5, 9, 9]]))
    dataset.records = (record,)
    plan = BatchPlan(dataset.sizes, 1, ShortestSide((40,), 60))
    targets = load_batch(dataset, plan, 0).targets
    assert targets.valid[0].tolist() == [True] * 3 + [False] * 5
    assert targets.ignored[0].tolist() == [False] * 3 + [True] * 2 + [False] * 3
    np.testing.assert_array_equal(targets.boxes[0, 3:5], record.ignored)
    assert targets.labels[0].tolist() == [2] * 3 + [0] * 5
    mirrored = load_batch(dataset, plan, 0, augmentation=Augmentation(flip=1.0)).targets
    np.testing.assert_array_equal(mirrored.boxes[0, 3:5], [[0, 0, 50, 40], [41, 5, 45, 9]])
    with pytest.raises(DataError, match=r"3 boxes and 2 ignored regions, more than max_boxes=4; .* at least 5"):
        load_batch(dataset, plan, 0, max_boxes=4)
    dataset.records = (replace(record, ignored=np.zeros((6, 4), np.float32)),)
    assert box_slots(dataset) == 16


def test_shifts_of_red_green_and_blue():
    """By hand, as albumentations: cut to 0..255, fractions dropped."""
    image = np.array([[[0, 100, 250], [10, 200, 255]]], np.uint8)
    np.testing.assert_array_equal(shift_rgb(image, (-5.5, 2.9, 7.0)), [[[0, 102, 255], [4, 202, 255]]])


def test_brightness_and_contrast():
    """200 * 1.2 - 0.1 * 255 = 214.5; 100 * 0.8 + 0.2 * 255 = 131."""
    assert adjust_levels(np.uint8([200, 0, 255]), 1.2, -0.1 * 255).tolist() == [214, 0, 255]
    assert adjust_levels(np.uint8([100, 0, 255]), 0.8, 0.2 * 255).tolist() == [131, 51, 255]


@pytest.mark.parametrize("change", [RGBShift(), BrightnessContrast()])
def test_changes_of_colour_happen_to_half_within_their_ranges(change):
    example = Example(
        image=np.full((1, 2, 3), 100, np.uint8), boxes=no_boxes(), labels=np.zeros(0, np.int32), image_id=1, path=""
    )
    found = np.stack([change(example, np.random.default_rng(seed)).image[0, 0] for seed in range(400)]).astype(int)
    changed = (found != 100).any(1)
    assert 0.42 < changed.mean() < 0.58
    if isinstance(change, RGBShift):
        assert 80 <= found.min() < 83 and 117 <= found.max() <= 120
        assert (found[changed][:, 0] != found[changed][:, 1]).any()  # each channel has its own
    else:
        assert 80 - 51 <= found.min() < 40 and 160 < found.max() <= 171  # 100 * 0.8 - 51, 100 * 1.2 + 51
        assert (found == found[:, :1]).all()
    assert (example.image == 100).all()
    never = replace(change, probability=0.0)
    assert never(example, np.random.default_rng(0)) is example

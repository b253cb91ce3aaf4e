"""Augmentations against torchvision's own, on PIL images."""

import numpy as np
import pytest
from data_draws import Draws
from PIL import Image

from jaxdet.data import Example
from jaxdet.data.augment.augmentation import ClassAugmentation, random_crop
from jaxdet.data.augment.photometric import adjust_hue, photometric_distort
from jaxdet.data.batching.sizing import ScaleJitter
from jaxdet.data.objects import no_boxes
from torchvision_cpu import torchvision_or_skip

torchvision_or_skip()
from torchvision.transforms import RandomResizedCrop  # noqa: E402
from torchvision.transforms import functional as F  # noqa: E402

RANGES = {"brightness": (0.875, 1.125), "contrast": (0.5, 1.5), "saturation": (0.5, 1.5), "hue": (-0.05, 0.05)}


def _image(height=37, width=53):
    return np.random.default_rng(2).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("name", list(RANGES))
@pytest.mark.parametrize("place", [0.0, 0.3, 0.99])
def test_each_adjustment(name, place):
    low, high = RANGES[name]
    chances = [0.0 if name == other else 0.9 for other in (*RANGES, "permutation")]
    draws = Draws(*chances, *(place for _ in RANGES), 0.0, 0.1, 0.2, 0.3)
    expected = getattr(F, f"adjust_{name}")(Image.fromarray(_image()), low + (high - low) * place)
    np.testing.assert_array_equal(photometric_distort(_image(), draws, 0.5), np.asarray(expected))


@pytest.mark.parametrize("contrast_first", [True, False])
def test_all_adjustments_in_torchvisions_order(contrast_first):
    brightness, contrast, saturation, hue = (low + (high - low) * 0.8 for low, high in RANGES.values())
    image = F.adjust_brightness(Image.fromarray(_image()), brightness)
    if contrast_first:
        image = F.adjust_contrast(image, contrast)
    image = F.adjust_hue(F.adjust_saturation(image, saturation), hue)
    if not contrast_first:
        image = F.adjust_contrast(image, contrast)
    draws = Draws(*[0.0] * 5, *[0.8] * 4, 0.4 if contrast_first else 0.6, 0.5, 0.9, 0.1)
    changed = photometric_distort(_image(), draws, 0.5)
    np.testing.assert_array_equal(changed, np.asarray(image)[..., [2, 0, 1]])


@pytest.mark.parametrize("factor", [-0.5, -0.13, -0.001, 0.0, 0.2, 0.5])
def test_hues_from_end_to_end(factor):
    image = Image.fromarray(_image())
    np.testing.assert_array_equal(np.asarray(adjust_hue(image, factor)), np.asarray(F.adjust_hue(image, factor)))


@pytest.mark.parametrize("scale", [0.1, 0.7, 2.0])
def test_jitter_resizes_and_crops_like_the_reference(scale):
    image = _image(90, 120)
    ratio = min(64 / 90, 64 / 120) * scale
    size = [int(90 * ratio), int(120 * ratio)]
    resized = F.resize(Image.fromarray(image), size)
    top, left = (int(max(0, side - 64) * 0.7) for side in size)
    expected = F.crop(resized, top, left, min(64, size[0]), min(64, size[1]))
    example = Example(image=image, boxes=no_boxes(), labels=np.zeros(0, np.int32), image_id=1, path="a.png")
    sizing = ScaleJitter((0.1, 2.1), (64, 64))
    pixels, _ = sizing.apply(example, (64, 64), Draws((scale - 0.1) / 2, 0.7), mean=(0, 0, 0), std=(1, 1, 1))
    np.testing.assert_allclose(pixels, np.asarray(expected) / np.float32(255), atol=1e-6)


@pytest.mark.parametrize("size", [(30, 40), (10, 90), (90, 10), (31, 41), (7, 7)])
def test_the_crop_without_a_fitting_attempt_is_torchvisions(size):
    impossible = (2.0, 2.0)  # twice the image's area never fits
    expected = RandomResizedCrop.get_params(Image.new("RGB", size[::-1]), impossible, (3 / 4, 4 / 3))
    assert random_crop(*size, impossible, (3 / 4, 4 / 3), np.random.default_rng(0)) == tuple(expected)


def test_a_drawn_crop_is_resized_like_torchvisions():
    image = _image()
    draws = (0.4, 0.7, 0.55, 0.9)
    # By hand: 0.448 of 37 x 53 pixels at a ratio of exp(0.4 log(4 / 3)) = 1.122 are 28 x 31, of 10 and 23 places.
    expected = np.asarray(F.resized_crop(Image.fromarray(image), 5, 20, 28, 31, [24, 24]))
    np.testing.assert_array_equal(ClassAugmentation()(image, 24, Draws(*draws, 0.5)), expected)
    np.testing.assert_array_equal(ClassAugmentation()(image, 24, Draws(*draws, 0.49)), expected[:, ::-1])

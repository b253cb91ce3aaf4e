"""Arrays that go into `predict` and `classify`: the same checks for both, and what to do in every message."""

from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

import jaxdet
from jaxdet.backbones.base import ClassifierTransform
from jaxdet.base import Task
from jaxdet.data.arrays import checked_pixels
from jaxdet.inference import classify
from jaxdet.models import build
from small_detector import tiny_config

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


class Brightness(nnx.Module):
    """Classifies by the colour that is brightest."""

    config = SimpleNamespace(
        task=Task.CLASSIFICATION, transform=ClassifierTransform(8, 8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    )

    def __call__(self, x):
        return 10 * jnp.mean(x, axis=(1, 2))


@pytest.fixture(scope="module")
def detector():
    """Without weights, as nothing is to reach them."""
    return nnx.eval_shape(lambda: build(tiny_config()))


def test_classify_takes_uint8_and_float():
    red = np.zeros((9, 12, 3), np.uint8)
    red[..., 0] = 255
    whole, halves, drawn = classify(Brightness(), [red, red / np.float64(510), Image.fromarray(red)])
    np.testing.assert_allclose(whole, np.exp([10, 0, 0]) / np.exp([10, 0, 0]).sum(), rtol=1e-5)
    np.testing.assert_allclose(halves, np.exp([5, 0, 0]) / np.exp([5, 0, 0]).sum(), rtol=1e-5)
    np.testing.assert_array_equal(whole, drawn)
    both = classify(Brightness(), [IMAGE, IMAGE.astype(np.float32) / 255])
    np.testing.assert_allclose(*both, atol=0.02)  # uint8 is resized to whole numbers
    assert classify(Brightness(), []) == classify(Brightness(), ()) == []


WRONG = {
    "a path": (["street.jpg"], r"image 0 is the path 'street\.jpg'; read the file first: image = jaxdet\.data"),
    "a Path": ([IMAGE, Path("a.png")], r"image 1 is the path 'a\.png'; read the file first"),
    "one path": ("street.jpg", r"images is 'street\.jpg'; read the file first: .*, and give the list \[image\]"),
    "one image": (IMAGE, r"images is a single array of shape \(20, 30, 3\); give a list, \[image\]"),
    "nothing": (None, r"images is a NoneType; give a list of arrays \[height, width, 3\]"),
    "unread": ([None], r"image 0 is None, which OpenCV's imread returns for files that it cannot read"),
    "grey": ([IMAGE[..., 0]], r"shape \(20, 30\); expected RGB \[height, width, 3\]; np\.stack\(\[image\] \* 3"),
    "one channel": ([IMAGE[..., :1]], r"shape \(20, 30, 1\); expected RGB .*; np\.repeat\(image, 3, axis=2\)"),
    "transparent": ([np.zeros((4, 5, 4), np.uint8)], r"shape \(4, 5, 4\); expected RGB .*; image\[\.\.\., :3\]"),
    "channels first": ([IMAGE.transpose(2, 0, 1)], r"shape \(3, 20, 30\); .*; image\.transpose\(1, 2, 0\)"),
    "a batch": ([IMAGE[None]], r"shape \(1, 20, 30, 3\); expected RGB .*; give the images of a batch one by one"),
    "empty": ([IMAGE[:0]], r"shape \(0, 30, 3\); expected RGB \[height, width, 3\]$"),
    "an object": ([object()], r"image 0 has shape \(\); expected RGB"),
    "integers": ([IMAGE.astype(np.int64)], r"of type int64; expected uint8, or float in 0\.\.1$"),
    "16 bits": ([IMAGE.astype(np.uint16)], r"of type uint16; .*; \(image >> 8\)\.astype\(np\.uint8\) scales"),
    "complex": ([IMAGE.astype(complex)], r"of type complex128; expected uint8, or float"),
    "bright floats": ([IMAGE.astype(float)], r"is float but not in 0\.\.1; give uint8 for values up to 255"),
    "not a number": ([np.full((4, 4, 3), np.nan)], r"is float but not in 0\.\.1"),
    "negative": ([np.full((4, 4, 3), -0.5)], r"is float but not in 0\.\.1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_image_is_refused_alike(detector, name):
    images, message = WRONG[name]
    for function, model in ((classify, Brightness()), (jaxdet.predict, detector)):
        with pytest.raises(ValueError, match=message) as caught:
            function(model, images)
        assert "\n" not in str(caught.value)


def test_models_of_the_other_kind_are_named(detector):
    with pytest.raises(ValueError, match="classify takes a classifier, but this FasterRCNN is a detector; use predict"):
        classify(detector, [IMAGE])
    classifier = nnx.eval_shape(lambda: jaxdet.create_model("mobilenet_v1", num_classes=2))
    with pytest.raises(ValueError, match="a detector, but this MobileNetV1 is a classifier; use classify"):
        jaxdet.predict(classifier, [IMAGE])
    with pytest.raises(ValueError, match="predict takes a detector, but this Brightness is a classifier"):
        jaxdet.predict(Brightness(), [IMAGE])


def test_floats_of_every_width_become_float32():
    for dtype in (np.float16, np.float32, np.float64):
        found = checked_pixels(np.full((2, 2, 3), 0.5, dtype))
        assert found.dtype == np.float32 and found.max() == 0.5
    assert checked_pixels(IMAGE) is IMAGE

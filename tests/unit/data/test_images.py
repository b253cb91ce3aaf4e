"""Image files: what is wrong with one, and what is only unusual."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from jaxdet.data import read_image
from jaxdet.data.images import image_problems

STORED = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def _problems(path, size=None):
    return image_problems(lambda: SimpleNamespace(image=read_image(path, size)), str(path), size)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_nothing_is_wrong_with_a_good_image(tmp_path, name):
    Image.fromarray(STORED).save(tmp_path / name)
    assert _problems(tmp_path / name) == [] == _problems(tmp_path / name, (20, 30))


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif", "tif", "webp"])
def test_truncated_images_are_told(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(STORED).save(path)
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2):
        path.write_bytes(whole[:length])
        ((kind, text),) = _problems(path)
        assert kind == "unreadable-image" and f"{path}: cannot be decoded" in text and "\n" not in text


def test_missing_images_and_other_sizes(tmp_path):
    ((kind, text),) = _problems(tmp_path / "no.png")
    assert kind == "missing-image" and "no.png: no such image file" in text
    Image.fromarray(STORED).save(tmp_path / "a.png")
    ((kind, text),) = _problems(tmp_path / "a.png", (20, 31))
    assert kind == "image-size" and "is 30 x 20 but its annotation says 31 x 20" in text


@pytest.mark.parametrize(("mode", "name"), [("L", "a.png"), ("P", "a.png"), ("RGBA", "a.png"), ("CMYK", "a.jpg")])
def test_other_colour_modes_are_warnings(tmp_path, mode, name):
    Image.fromarray(STORED).convert(mode).save(tmp_path / name)
    ((kind, text),) = _problems(tmp_path / name)
    assert kind == "colour-mode" and kind.severity == "warning" and f"is {mode} and is converted" in text

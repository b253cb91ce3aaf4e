"""Picture files: what is wrong with one, and what is only unusual."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from jaxdet.data import DataError, read_image
from jaxdet.data.pictures import picture_problems, read_image_size

STORED = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def _problems(path, size=None):
    return picture_problems(lambda: read_image(path, size), str(path), size)


def _turned(path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(STORED).save(path, exif=exif)
    return path


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_nothing_is_wrong_with_a_good_picture(tmp_path, name):
    Image.fromarray(STORED).save(tmp_path / name)
    assert _problems(tmp_path / name) == [] == _problems(tmp_path / name, (20, 30))


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif", "tif", "webp"])
def test_truncated_pictures_are_told(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(STORED).save(path)
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2):
        path.write_bytes(whole[:length])
        ((kind, text),) = _problems(path)
        assert kind == "unreadable-picture" and f"{path}: cannot be decoded" in text and "\n" not in text


def test_missing_pictures_and_other_sizes(tmp_path):
    ((kind, text),) = _problems(tmp_path / "no.png")
    assert kind == "missing-picture" and "no.png: there is no such image file" in text
    Image.fromarray(STORED).save(tmp_path / "a.png")
    ((kind, text),) = _problems(tmp_path / "a.png", (20, 31))
    assert kind == "picture-size" and "is 30 x 20 but its annotation says 31 x 20" in text


@pytest.mark.parametrize(("mode", "name"), [("L", "a.png"), ("P", "a.png"), ("RGBA", "a.png"), ("CMYK", "a.jpg")])
def test_other_colour_modes_are_warnings(tmp_path, mode, name):
    Image.fromarray(STORED).convert(mode).save(tmp_path / name)
    ((kind, text),) = _problems(tmp_path / name)
    assert kind == "colour-mode" and kind.severity == "warning" and f"is {mode} and is converted" in text


def test_of_deep_pictures_it_is_told_that_they_are_clipped(tmp_path):
    Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30)).save(tmp_path / "a.png")
    ((_, text),) = _problems(tmp_path / "a.png")
    assert text.endswith("values above 255 become 255") and read_image(tmp_path / "a.png").max() == 255


@pytest.mark.parametrize("orientation", range(2, 9))
def test_orientations_are_warnings_and_followed_where_the_annotation_follows(tmp_path, orientation):
    path = _turned(tmp_path / "a.png", orientation)
    sideways = orientation > 4
    assert read_image_size(path) == (20, 30)
    assert read_image_size(path, upright=True) == ((30, 20) if sideways else (20, 30))
    ((kind, text),) = _problems(path)
    assert kind == "exif-rotation" and kind.severity == "warning" and text.endswith("it is used as stored")
    np.testing.assert_array_equal(read_image(path, (20, 30)), STORED)
    if sideways:
        ((kind, text),) = _problems(path, (30, 20))
        assert kind == "exif-rotation" and text.endswith("it is turned, as its annotation is")
        with Image.open(path) as file:
            np.testing.assert_array_equal(read_image(path, (30, 20)), ImageOps.exif_transpose(file))


def test_a_damaged_exif_block_does_no_harm(tmp_path):
    path = _turned(tmp_path / "a.jpg", 6)
    content = path.read_bytes()
    start = content.index(b"Exif\0\0") + 6
    for damage in (b"\xff" * 8, b"MM\0*\0\0\0\x08\xff\xff"):
        path.write_bytes(content[:start] + damage + content[start + len(damage) :])
        assert read_image(path, (20, 30)).shape == (20, 30, 3)
        assert read_image_size(path, upright=True) in ((20, 30), (30, 20))
        with pytest.raises(DataError, match="its annotation says 99 x 99"):
            read_image(path, (99, 99))

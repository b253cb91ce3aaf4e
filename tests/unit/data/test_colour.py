"""Every pixel format that Pillow reads: 8-bit RGB of the right colours, or one line that says why not."""

import io
import re
import struct
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from jaxdet.data import ClassFolder, DataError, read_image
from jaxdet.data.colour import to_rgb
from jaxdet.data.images import image_problems

HEIGHT, WIDTH = 4, 6
DEEP = np.linspace(0, 65535, HEIGHT * WIDTH).round().astype(np.uint16).reshape(HEIGHT, WIDTH)
HIGH = (DEEP // 256).astype(np.uint8)  # what 16 bits are in 8
RED, GREY = (200, 40, 20), (90, 90, 90)


def _image(mode, colour):
    return Image.new(mode, (WIDTH, HEIGHT), colour)


def _palette(*, transparent):
    image = _image("P", 1)
    image.putpalette([0, 0, 0, *RED])
    if transparent:
        image.info["transparency"] = b"\xff\x40"  # by entry
    return image


def _png(pixels, colour_type):
    """Of 16 bits a channel, which Pillow writes of greyscale alone."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _tiff(data, *, order="<", bits=16, photometric=1, sample_format=1):
    """Greyscale, uncompressed; the pixels lie between the header and the tags."""
    tags = {256: WIDTH, 257: HEIGHT, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: HEIGHT}
    tags |= {279: len(data), 339: sample_format}
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    header = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(data))
    return header + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


def _saved(image, kind):
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def _twelve_bits():
    """Two values in three bytes."""
    first, second = (DEEP.reshape(-1) >> 4)[::2].astype(int), (DEEP.reshape(-1) >> 4)[1::2].astype(int)
    return np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1).astype(np.uint8).tobytes()


# name: (Pillow's mode, the file, its RGB)
CONVERTED = {
    "grey": ("L", lambda: _saved(_image("L", 90), "PNG"), GREY),
    "grey and alpha": ("LA", lambda: _saved(_image("LA", (90, 10)), "PNG"), GREY),
    "one bit": ("1", lambda: _saved(_image("1", 1), "PNG"), (255, 255, 255)),
    "palette": ("P", lambda: _saved(_palette(transparent=False), "PNG"), RED),
    "palette with transparency": ("P", lambda: _saved(_palette(transparent=True), "PNG"), RED),
    "palette and alpha": ("PA", lambda: _saved(_palette(transparent=False).convert("PA"), "TIFF"), RED),
    "gif": ("P", lambda: _saved(_palette(transparent=False), "GIF"), RED),
    "alpha": ("RGBA", lambda: _saved(_image("RGBA", (*RED, 0)), "PNG"), RED),
    "cmyk": ("CMYK", lambda: _saved(_image("CMYK", (55, 215, 235, 0)), "TIFF"), RED),
    "ycbcr": ("YCbCr", lambda: _saved(_image("RGB", RED).convert("YCbCr"), "TIFF"), RED),
    "rgb": ("RGB", lambda: _saved(_image("RGB", RED), "PNG"), RED),
    "tiff with alpha": ("RGBA", lambda: _saved(_image("RGBA", (*RED, 9)), "TIFF"), RED),
    "bmp": ("RGB", lambda: _saved(_image("RGB", RED), "BMP"), RED),
    "16-bit png": ("I;16", lambda: _saved(Image.fromarray(DEEP), "PNG"), HIGH),
    "16-bit png with alpha": ("RGBA", lambda: _png(np.stack([DEEP, 65535 - DEEP], -1), 4), HIGH),
    "16-bit rgb png": ("RGB", lambda: _png(np.stack([DEEP] * 3, -1), 2), HIGH),
    "16-bit tiff": ("I;16", lambda: _saved(Image.fromarray(DEEP), "TIFF"), HIGH),
    "16-bit big-endian tiff": ("I;16B", lambda: _tiff(DEEP.astype(">u2").tobytes(), order=">"), HIGH),
    "16-bit tiff, white is 0": ("I;16", lambda: _tiff(DEEP.tobytes(), photometric=0), 255 - HIGH),
    "12-bit tiff": ("I;16", lambda: _tiff(_twelve_bits(), bits=12), HIGH),
    "16-bit pgm": ("I", lambda: b"P5 6 4 65535\n" + DEEP.astype(">u2").tobytes(), HIGH),
    "10-bit pgm": ("I", lambda: b"P5 6 4 1023\n" + (DEEP >> 6).astype(">u2").tobytes(), HIGH),
    "16-bit jpeg 2000": ("I;16", lambda: _saved(Image.fromarray(DEEP), "JPEG2000"), HIGH),
}
REFUSED = {
    "float tiff": ("F", lambda: _saved(Image.fromarray(np.ones((4, 6), np.float32)), "TIFF"), "floating-point"),
    "pfm": ("F", lambda: _saved(Image.fromarray(np.ones((4, 6), np.float32)), "PPM"), "floating-point"),
    "32-bit tiff": ("I", lambda: _tiff(DEEP.astype("<u4").tobytes(), bits=32), "32-bit or signed integer"),
    "signed tiff": ("I", lambda: _tiff(DEEP.tobytes(), sample_format=2), "32-bit or signed integer"),
    "lab": ("LAB", lambda: _saved(_image("LAB", (255, 0, 0)), "TIFF"), "CIE Lab"),
}


def _write(folder, content):
    path = folder / "a.img"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", CONVERTED)
def test_modes_that_have_colours(tmp_path, name):
    mode, content, colour = CONVERTED[name]
    path = _write(tmp_path, content())
    with Image.open(path) as file:
        assert file.mode == mode
    pixels = read_image(path)
    assert pixels.dtype == np.uint8 and pixels.shape == (HEIGHT, WIDTH, 3)
    expected = np.asarray(colour)
    expected = np.broadcast_to(expected[..., None] if expected.ndim == 2 else expected, pixels.shape).astype(int)
    # Pillow decodes what was stored; YCbCr and a scaled PGM are rounded on the way.
    np.testing.assert_allclose(pixels.astype(int), expected, atol=2 if name in ("ycbcr", "10-bit pgm") else 0)
    problems = image_problems(lambda: SimpleNamespace(image=pixels), str(path))
    assert [problem.kind for problem in problems] == ([] if mode == "RGB" else ["colour-mode"])
    if mode != "RGB":
        assert f"is {mode} and is converted to RGB" in problems[0].text
        assert ("dropping the lower bits" in problems[0].text) == mode.startswith("I")


@pytest.mark.parametrize("name", REFUSED)
def test_modes_that_have_none_are_refused_with_the_reason(tmp_path, name):
    mode, content, reason = REFUSED[name]
    path = _write(tmp_path, content())
    with Image.open(path) as file:
        assert file.mode == mode
    pattern = re.escape(f"{path}: the image has {reason}") + ".*scale it yourself and store it as 8-bit RGB"
    with pytest.raises(DataError, match=pattern) as caught:
        read_image(path)
    assert caught.value.faults[0].kind == "unreadable-image"
    (problem,) = image_problems(lambda: SimpleNamespace(image=read_image(path)), str(path))
    assert problem.kind.severity == "error" and reason in problem.text


@pytest.mark.parametrize(("mode", "pixel"), [("RGBX", (*RED, 0)), ("RGBa", (100, 20, 10, 128)), ("La", (45, 128))])
def test_modes_that_few_files_have(mode, pixel):
    expected = GREY if mode == "La" else RED
    np.testing.assert_allclose(np.array(to_rgb(_image(mode, pixel)))[0, 0].astype(int), expected, atol=1)


def test_12_bits_in_a_16_bit_file_are_told_to_be_nearly_black(tmp_path):
    (tmp_path / "cat").mkdir()
    Image.fromarray(DEEP >> 4).save(tmp_path / "cat" / "a.png")
    dataset = ClassFolder(str(tmp_path)).open()
    assert dataset[0].image.max() == 15
    (problem,) = dataset.inspect(0)
    assert problem.text.endswith("nearly black (at most 15 of 255): scale its values to the full range")


def test_deep_images_are_turned_upright_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a.png", "a.tif"):  # Pillow alone mixes up the rows of such a TIFF
        Image.fromarray(DEEP).save(tmp_path / name, exif=exif)
        np.testing.assert_array_equal(read_image(tmp_path / name)[..., 0], np.rot90(HIGH, -1))
        np.testing.assert_array_equal(read_image(tmp_path / name, (HEIGHT, WIDTH))[..., 0], HIGH)

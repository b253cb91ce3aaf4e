"""Every reader reads images upright, and the stored pixels where the annotation was made on them."""

import json
import struct
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from jaxdet.data import ClassFolder, CocoFiles, DataError, Examples, HeadList, VocFolder, YoloFolder, read_image
from jaxdet.data.formats.lists.conversion import Conversion
from jaxdet.data.formats.packed import open_packed
from jaxdet.data.images import image_problems, read_image_size
from jaxdet.data_report.pack import pack

HEIGHT, WIDTH = 20, 30
UPRIGHT, STORED_SIZE = (WIDTH, HEIGHT), (HEIGHT, WIDTH)  # (height, width) at orientation 6
# Smooth, so that a JPEG keeps it, and different at every corner.
STORED = np.stack([*np.meshgrid(np.arange(WIDTH) * 8, np.arange(HEIGHT) * 12), np.full(STORED_SIZE, 90)], -1)
STORED = STORED.astype(np.uint8)
# What EXIF's numbers mean, written down a second time.
TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


def _write(path, orientation=6):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {".jpg": {"quality": 97, "subsampling": 0}, ".webp": {"lossless": True}}.get(path.suffix, {})
    Image.fromarray(STORED).save(path, exif=exif, **options)
    return path


def _move_exif_behind_pixels(path):
    """As the PNG format allows."""
    content = path.read_bytes()
    chunks, position = [], 8
    while position < len(content):
        length = struct.unpack(">I", content[position : position + 4])[0]
        chunks.append(content[position : position + 12 + length])
        position += 12 + length
    chunks.sort(key=lambda chunk: (chunk[4:8] == b"IEND", chunk[4:8] == b"eXIf"))
    assert chunks[-2][4:8] == b"eXIf"
    path.write_bytes(content[:8] + b"".join(chunks))


@pytest.mark.parametrize("suffix", ["jpg", "png", "late.png", "tif", "webp"])
@pytest.mark.parametrize("orientation", TURNED)
def test_images_are_turned_upright_in_every_format(tmp_path, orientation, suffix):
    path = _write(tmp_path / f"a.{suffix}", orientation)
    if suffix == "late.png":
        _move_exif_behind_pixels(path)
    expected = TURNED[orientation](STORED)
    tolerance = 6 if suffix == "jpg" else 0
    assert read_image_size(path) == expected.shape[:2]
    for size in (None, expected.shape[:2]):
        np.testing.assert_allclose(read_image(path, size).astype(int), expected, atol=tolerance)
    sideways = orientation > 4
    if sideways:  # the annotation was made on the stored pixels
        np.testing.assert_allclose(read_image(path, STORED_SIZE).astype(int), STORED, atol=tolerance)
    with pytest.raises(DataError, match=r"its annotation says 99 x 99"):
        read_image(path, (99, 99))


@pytest.mark.parametrize("orientation", range(2, 9))
def test_what_was_done_is_told(tmp_path, orientation):
    path = _write(tmp_path / "a.png", orientation)
    annotations = {None: "it is read upright", TURNED[orientation](STORED).shape[:2]: "it is read upright"}
    if orientation > 4:
        annotations[STORED_SIZE] = "has the stored size 30 x 20 (width x height), so it is read as stored"
    for size, ending in annotations.items():
        ((kind, text),) = image_problems(lambda: SimpleNamespace(image=STORED), str(path), size)
        assert kind == "exif-rotation" and kind.severity == "warning" and text.endswith(ending)
        assert f"orientation {orientation}" in text


def test_a_square_is_upright_whatever_its_annotation_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    square = STORED[:, :HEIGHT]
    Image.fromarray(square).save(tmp_path / "a.png", exif=exif)
    for size in (None, (HEIGHT, HEIGHT)):
        np.testing.assert_array_equal(read_image(tmp_path / "a.png", size), np.rot90(square))


def test_the_header_of_a_png_without_exif_is_all_that_is_read(tmp_path, monkeypatch):
    Image.fromarray(STORED).save(tmp_path / "a.png")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", None)
    assert read_image_size(tmp_path / "a.png") == STORED_SIZE


def test_a_damaged_exif_block_does_no_harm(tmp_path):
    path = _write(tmp_path / "a.jpg")
    content = path.read_bytes()
    start = content.index(b"Exif\0\0") + 6
    for damage in (b"\xff" * 8, b"MM\0*\0\0\0\x08\xff\xff"):
        path.write_bytes(content[:start] + damage + content[start + len(damage) :])
        assert read_image(path).shape[:2] == read_image_size(path) in (STORED_SIZE, UPRIGHT)
        assert read_image(path, STORED_SIZE).shape[:2] == STORED_SIZE


def test_a_damaged_png_with_late_exif_is_told(tmp_path):
    path = _write(tmp_path / "a.png")
    _move_exif_behind_pixels(path)
    content = bytearray(path.read_bytes())
    start = content.index(b"IDAT") + 4
    content[start : start + 4] = b"\xff" * 4
    length = struct.unpack(">I", content[start - 8 : start - 4])[0]
    content[start + length : start + length + 4] = struct.pack(">I", zlib.crc32(content[start - 4 : start + length]))
    path.write_bytes(bytes(content))
    for read in (read_image, read_image_size):
        with pytest.raises(DataError, match=r"a\.png: cannot be decoded as an image"):
            read(path)


# The readers: of each a dataset over one image of orientation 6, by the annotated size.


def _coco(root, size):
    entry = {"id": 1, "file_name": "a.png"} | ({} if size is None else {"height": size[0], "width": size[1]})
    content = {"images": [entry], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    (root / "a.json").write_text(json.dumps(content))
    return CocoFiles(str(root / "a.json"), str(root))


def _voc(root, size):
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    (root / "a.png").rename(root / "JPEGImages" / "a.png")
    shape = "" if size is None else f"<size><width>{size[1]}</width><height>{size[0]}</height></size>"
    (root / "Annotations" / "a.xml").write_text(f"<annotation>{shape}</annotation>")
    (root / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    return VocFolder(str(root), "train", ("cat",))


def _yolo(root, size):
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    (root / "a.png").rename(root / "images" / "a.png")
    (root / "labels" / "a.txt").write_text("0 .5 .5 1 1\n")
    (root / "data.yaml").write_text("names: [cat]\ntrain: images\n")
    return YoloFolder(str(root), "train")


def _head_list(root, size):
    (root / "train.txt").write_text("# a.png\n0 0 5 5 0\n")
    return HeadList(str(root / "train.txt"))


def _examples(root, size):
    entry = {"image": str(root / "a.png"), "boxes": [], "labels": []}
    return Examples([entry], ("cat",), sizes=None if size is None else [size])


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (_coco, None), (_coco, UPRIGHT), (_coco, STORED_SIZE), (_voc, None), (_voc, UPRIGHT), (_voc, STORED_SIZE),
        (_yolo, None), (_head_list, None), (_examples, None), (_examples, UPRIGHT), (_examples, STORED_SIZE),
    ],
)  # fmt: skip
def test_datasets_follow_the_rule_and_say_so(tmp_path, make, size):
    root = tmp_path / "set"
    root.mkdir()
    _write(root / "a.png")
    dataset = make(root, size).open()
    pack(dataset, tmp_path / "packed", progress=False)
    expected = STORED if size == STORED_SIZE else np.rot90(STORED, -1)
    for one in (dataset, open_packed(tmp_path / "packed")):
        np.testing.assert_array_equal(one[0].image, expected)
        assert one.records[0].size == expected.shape[:2] and one.sizes.tolist() == [list(expected.shape[:2])]
    # Whoever has a file of its own, or its bytes, says what was done; an example has neither.
    (problem,) = open_packed(tmp_path / "packed").inspect(0)
    assert problem.text.endswith("read as stored" if size == STORED_SIZE else "read upright")
    if make is not _examples:
        (own,) = dataset.inspect(0)
        assert own.kind == problem.kind == "exif-rotation" and own.text == problem.text


def test_class_folders_and_their_packed_form_are_upright(tmp_path):
    (tmp_path / "set" / "cat").mkdir(parents=True)
    _write(tmp_path / "set" / "cat" / "a.png")
    dataset = ClassFolder(str(tmp_path / "set")).open()
    pack(dataset, tmp_path / "packed", progress=False)
    for one in (dataset, open_packed(tmp_path / "packed")):
        np.testing.assert_array_equal(one[0].image, np.rot90(STORED, -1))
        assert one.inspect(0)[0].text.endswith("read upright")


def test_head_lists_are_converted_in_upright_coordinates(tmp_path):
    _write(tmp_path / "a.png")
    conversion = Conversion(tmp_path)
    assert conversion.add_image(tmp_path / "a.png", ("list", 1))
    assert conversion.add_image(tmp_path / "a.png", ("list", 1), UPRIGHT)
    conversion.add_box((5, 20, 25, 40), 0, ("list", 2))  # reaches out below and to the right of 20 x 30
    assert conversion.images[1].boxes[0].box == (5, 20, 20, 30)
    # Boxes made on the stored pixels do not fit what readers of the list see.
    assert not conversion.add_image(tmp_path / "a.png", ("list", 1), STORED_SIZE)
    assert len(conversion.images) == 2 and "store the image upright" in conversion.left_out[0].problem

"""Detection over folders: in shares, again and again, each image once; broken images cost no others."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import jaxdet
from jaxdet.data import DataError
from jaxdet.detect import Detected, detect
from jaxdet.detect import detect as detect_function
from jaxdet.evaluation.mot import read_mot
from jaxdet.models import build
from small_detector import ONE_LEVEL, tiny_config

NAMES = ("__background__", "head", "hat", "wig")


@pytest.fixture(scope="module")
def model():
    """Untrained: it finds something everywhere, above a threshold of 0.2."""
    return build(tiny_config(names=NAMES, min_size=64, max_size=64, **ONE_LEVEL))


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Two sequences of three frames of two sizes."""
    folder = tmp_path_factory.mktemp("frames")
    generator = np.random.default_rng(0)
    for sequence in ("walk-1", "walk-2"):
        (folder / sequence / "img1").mkdir(parents=True)
        for number in range(3):
            pixels = generator.integers(0, 256, (60, 64 + number, 3), np.uint8)
            Image.fromarray(pixels).save(folder / sequence / "img1" / f"{number + 4:06d}.png")
    return folder


@pytest.fixture
def files(frames):
    return sorted(frames.rglob("*.png"))


@pytest.fixture(scope="module")
def whole(model, frames, tmp_path_factory):
    """What one undisturbed process leaves."""
    out = tmp_path_factory.mktemp("whole")
    done = _detect(model, sorted(frames.rglob("*.png")), out, batch_size=2, draw=True, mot_class="head")
    assert isinstance(done, Detected) and (done.left, done.images, done.unreadable) == (0, 6, ())
    return out


def _detect(model, files, out, **options):
    values = {"score_threshold": 0.2, "batch_size": 2, "draw": False, "say": lambda line: None, "progress": False}
    return detect(model, files, out, **values | options)


def _content(out):
    return json.loads((out / "detections.json").read_text())


def _lines(out):
    return [line for part in sorted((out / "parts").glob("part-*")) for line in part.read_text().splitlines()]


def test_detections_are_those_of_predict(model, files, whole):
    content = _content(whole)
    assert [image["file_name"] for image in content["images"]] == [str(file) for file in files]
    assert [image["id"] for image in content["images"]] == [1, 2, 3, 4, 5, 6]
    assert content["categories"] == [{"id": label, "name": NAMES[label]} for label in (1, 2, 3)]
    assert [one["id"] for one in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))
    images = [np.asarray(Image.open(file)) for file in files]
    for number, found in enumerate(jaxdet.predict(model, images, score_threshold=0.2, batch_size=2), start=1):
        own = [one for one in content["annotations"] if one["image_id"] == number]
        boxes = np.array([one["bbox"] for one in own])
        boxes[:, 2:] += boxes[:, :2]
        np.testing.assert_allclose(boxes, found["boxes"], atol=0.01)
        np.testing.assert_allclose([one["score"] for one in own], found["scores"], atol=1e-4)
        assert [one["name"] for one in own] == found["names"] and len(own) > 2


def test_sequences_have_a_file_and_a_folder_each(whole, files):
    content = _content(whole)
    for sequence in ("walk-1", "walk-2"):
        read = read_mot(whole / "mot" / f"{sequence}.txt")
        for image in content["images"]:
            if sequence in image["file_name"]:
                number = int(image["file_name"][-10:-4])
                own = [
                    one for one in content["annotations"] if one["image_id"] == image["id"] and one["name"] == "head"
                ]
                boxes = np.array([one["bbox"] for one in own])
                boxes[:, 2:] += boxes[:, :2]
                np.testing.assert_allclose(read[number].boxes, boxes, atol=2e-3)
                np.testing.assert_allclose(read[number].scores, [one["score"] for one in own], atol=1e-5)
                with Image.open(whole / sequence / f"{number:06d}.png") as annotated:
                    assert annotated.size == (image["width"], image["height"])
        assert sorted(read) == [4, 5, 6]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_shares_in_any_order_join_to_the_same(model, files, whole, tmp_path, order):
    for turn, index in enumerate(order):
        done = _detect(model, files, tmp_path, process_index=index, process_count=3, mot_class="head")
        assert done.left == 6 - 2 * (turn + 1)
        assert (tmp_path / "detections.json").exists() == (turn == 2)
    assert _content(tmp_path) == _content(whole)
    assert (tmp_path / "mot" / "walk-2.txt").read_text() == (whole / "mot" / "walk-2.txt").read_text()
    assert len(_lines(tmp_path)) == 6


def test_it_goes_on_where_it_was_stopped_also_with_another_number_of_processes(
    model, files, whole, tmp_path, monkeypatch
):
    real, seen = jaxdet.detect.parts.Part.add, []

    def stopped(part, found):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(found.file)
        real(part, found)

    monkeypatch.setattr("jaxdet.detect.parts.Part.add", stopped)
    with pytest.raises(KeyboardInterrupt):
        _detect(model, files, tmp_path)
    monkeypatch.setattr("jaxdet.detect.parts.Part.add", real)
    assert [json.loads(line)["file"] for line in _lines(tmp_path)] == seen
    assert _detect(model, files, tmp_path, process_index=1, process_count=2).left > 0
    assert _detect(model, files, tmp_path, process_index=0, process_count=2).left == 0
    assert sorted(json.loads(line)["file"] for line in _lines(tmp_path)) == [str(file) for file in files]
    assert _content(tmp_path) == _content(whole)
    before = _lines(tmp_path)
    assert _detect(model, files, tmp_path).detections == len(_content(whole)["annotations"])
    assert _lines(tmp_path) == before


def test_a_broken_image_is_named_each_time_until_it_is_whole(model, files, tmp_path):
    broken, thin = tmp_path / "broken.png", tmp_path / "thin.png"
    broken.write_bytes(files[0].read_bytes()[:100])
    Image.new("RGB", (5000, 1)).save(thin)
    given, out, said = [broken, *files[1:3], thin], tmp_path / "out", []
    for _ in range(2):
        done = _detect(model, given, out, say=said.append)
        assert done.unreadable == (str(broken), str(thin)) and done.images == 2
        assert [image["id"] for image in _content(out)["images"]] == [2, 3]
    assert len(said) == 4 and said[0].startswith(str(broken)) and "no pixels" in said[1] and said[:2] == said[2:]
    broken.write_bytes(files[0].read_bytes())
    assert _detect(model, given, out, say=said.append).unreadable == (str(thin),)
    assert [image["id"] for image in _content(out)["images"]] == [1, 2, 3]


def test_other_detections_are_refused_and_overwritten_on_request(model, files, tmp_path):
    _detect(model, files[:1], tmp_path)
    other = build(tiny_config(names=NAMES, min_size=64, max_size=64, box_nms_thresh=0.4, **ONE_LEVEL))
    for changed, says in (
        ({"score_threshold": 0.3}, r"score threshold \(was 0.2, now 0.3\)"),
        ({"files": files[:2]}, r"pictures \(was 1, now 2\)"),
        ({"files": files[1:2]}, "names of images"),
        ({"draw": True}, "annotated images"),
        ({"model": other}, r"model \(was"),
    ):
        with pytest.raises(ValueError, match=says):
            _detect(**{"model": model, "files": files[:1], "out": tmp_path} | changed)
    assert _detect(model, files[1:2], tmp_path, score_threshold=0.3, overwrite=True).images == 1
    assert [image["file_name"] for image in _content(tmp_path)["images"]] == [str(files[1])]


def test_mistakes_are_refused_before_anything_is_written(model, files, tmp_path):
    for options, says in (
        ({"mot_class": "cat"}, "no class 'cat'; it has head, hat, wig"),
        ({"mot_class": 4}, "labels 1 to 3, not 4"),
        ({"process_index": 2, "process_count": 2}, "from 0 to 1, not 2"),
        ({"process_count": 2, "overwrite": True}, "--overwrite is for a single process"),
    ):
        with pytest.raises(ValueError, match=says):
            detect_function(model, files, tmp_path / "new", **options)
    cat = tmp_path / "cat.png"
    cat.write_bytes(files[0].read_bytes())
    with pytest.raises(DataError, match="must end in a frame number"):
        _detect(model, [cat], tmp_path / "new", mot_class=1)
    assert not (tmp_path / "new").exists()


def test_rotated_photographs_are_read_upright(model, tmp_path):
    """Of a phone: stored sideways, with the EXIF orientation that says so. Boxes and sizes are those that one sees."""
    pixels = np.random.default_rng(1).integers(0, 256, (60, 64, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(np.rot90(pixels, -1)).save(tmp_path / "upright.png")
    files = [tmp_path / "turned.png", tmp_path / "upright.png"]
    _detect(model, files, tmp_path / "out", draw=True)
    content = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [(entry["width"], entry["height"]) for entry in content["images"]] == [(60, 64), (60, 64)]
    turned, upright = (
        [(entry["bbox"], entry["score"]) for entry in content["annotations"] if entry["image_id"] == image["id"]]
        for image in content["images"]
    )
    assert turned == upright != []
    with Image.open(tmp_path / "out" / "turned.png") as drawn:
        assert drawn.size == (60, 64)

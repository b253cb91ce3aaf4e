"""The page of training images, on images of one colour each."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxdet.backbones import MobileNetV1Config
from jaxdet.backbones.base import ClassifierTransform
from jaxdet.data import Augmentation, ClassAugmentation, ClassFolder, CocoFiles
from jaxdet.data_report.page import show
from jaxdet.models import detector_config
from jaxdet.ops.pixels import IMAGENET_MEAN
from jaxdet.runs import TrainConfig
from jaxdet.visualize import class_colour, titled

COLOURS = ((200, 30, 60), (20, 160, 90), (70, 80, 220), (240, 240, 10), (5, 5, 5))
TILE, GAP = 440, 8


def _detection(folder):
    """Five images of 64 x 48, each with a crowd and a box of the second class; the canvas is 64 x 64."""
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "bee"}, {"id": 2, "name": "cat"}]}
    for number, colour in enumerate(COLOURS):
        Image.new("RGB", (64, 48), colour).save(folder / f"{number}.png")
        content["images"].append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 48})
        for crowd, box in enumerate(((30, 20, 20, 20), (0, 0, 20, 20))):
            entry = {"image_id": number, "category_id": 2, "bbox": box, "iscrowd": crowd, "area": 400}
            content["annotations"].append({"id": len(content["annotations"]) + 1, **entry})
    (folder / "a.json").write_text(json.dumps(content))
    model = detector_config("fasterrcnn_mobilenet_v1_fpn", min_size=48, max_size=64)
    source = CocoFiles(str(folder / "a.json"), str(folder))
    return TrainConfig(model=model, train=source, steps=3, batch_size=2, augment=Augmentation(flip=0.0))


def _tiles(path, rows, columns):
    page = np.asarray(Image.open(path)).astype(int)
    assert page.shape[1] == columns * (TILE + GAP) + GAP
    pitch = (page.shape[0] - GAP) // rows
    return [
        page[(row + 1) * pitch - TILE :, GAP + column * (TILE + GAP) :][:TILE, :TILE]
        for row in range(rows)
        for column in range(columns)
    ]


def test_each_image_appears_in_its_own_colours(tmp_path):
    show(_detection(tmp_path), tmp_path / "page.png", count=4)
    shown = [tile[300, 100].tolist() for tile in _tiles(tmp_path / "page.png", 2, 2)]
    found = [min(range(5), key=lambda n: np.abs(np.subtract(COLOURS[n], colour)).max()) for colour in shown]
    assert len(set(found)) == 4
    np.testing.assert_allclose(shown, [COLOURS[n] for n in found], atol=1)


def test_box_crowd_true_size_and_canvas(tmp_path):
    show(_detection(tmp_path), tmp_path / "page.png", count=1)
    (tile,) = _tiles(tmp_path / "page.png", 1, 1)
    assert (tile[329, 30:] == 255).all()  # 48 of the canvas's 64 pixels
    np.testing.assert_allclose(tile[400, 200], np.array(IMAGENET_MEAN) * 255, atol=1)
    assert (tile[150:270, round(30 * TILE / 64)] == class_colour(2)).all()
    edge = (tile[:137, round(20 * TILE / 64) - 1] == 150).all(axis=1)
    assert 0.4 < edge.mean() < 0.75 and np.abs(np.diff(edge)).sum() > 10


def test_classes_of_labelled_images(tmp_path):
    for number, colour in enumerate(COLOURS[:4]):
        folder = tmp_path / "data" / ("ant", "bee")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), colour).save(folder / f"{number}.png")
    model = MobileNetV1Config(num_classes=2, transform=ClassifierTransform(resize=40, crop=32))
    config = TrainConfig(
        model=model, train=ClassFolder(str(tmp_path / "data")), steps=2, batch_size=2, augment=ClassAugmentation()
    )
    show(config, tmp_path / "page.png", count=4)
    shown = {tuple(tile[200, 200].tolist()) for tile in _tiles(tmp_path / "page.png", 2, 2)}
    assert shown == set(COLOURS[:4])


def test_nothing_to_show(tmp_path):
    with pytest.raises(ValueError, match="count must be at least 1, not 0"):
        show(_detection(tmp_path), tmp_path / "page.png", count=0)


def test_a_title_keeps_to_the_images_width():
    image = np.full((10, 60, 3), 7, np.uint8)
    short, long = titled(image, "a"), titled(image, "a title of many words")
    assert short.shape == long.shape and short.shape[1] == 60
    assert (long[-10:] == 7).all() and (long[:-10, :, 0] < 100).sum() > (short[:-10, :, 0] < 100).sum() > 0

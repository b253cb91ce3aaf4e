"""Runs on images that hold more objects than COCO's metrics count: it is told before training, and can be raised."""

import json

import pytest
from PIL import Image

from jaxdet.data import CocoFiles
from jaxdet.runs import TrainConfig, open_task
from small_detector import tiny_config


@pytest.fixture
def source(tmp_path):
    """An image with 120 objects of one class, and one with a single object."""
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (90, 60)).save(tmp_path / "images" / name)
    corners = [[6 * column, 6 * row, 5, 5] for row in range(10) for column in range(12)]
    boxes = [{"image_id": 1, "bbox": bbox} for bbox in corners] + [{"image_id": 2, "bbox": [1, 1, 9, 9]}]
    content = {
        "images": [
            {"id": n, "file_name": f"{name}.png", "width": 90, "height": 60} for n, name in ((1, "a"), (2, "b"))
        ],
        "annotations": [{"id": n, "category_id": 1, **box} for n, box in enumerate(boxes, start=1)],
        "categories": [{"id": 1, "name": "cell"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    return CocoFiles(str(tmp_path / "a.json"), str(tmp_path / "images"))


def _notes(source, options=None, **config):
    model = tiny_config(**(options or {}))
    task = open_task(TrainConfig(model=model, train=source, val=source, steps=1, batch_size=1, **config))
    return [line for line in task.summary() if line.startswith("note ")]


def test_a_run_says_what_its_evaluations_cannot_count(source):
    counted, given = _notes(source)
    assert "1 image has more than 100 objects of a class (up to 120)" in counted and "max_dets=120" in counted
    assert "box_detections_per_img=100" in given
    assert _notes(source, max_dets=120) == [given]
    assert _notes(source, {"box_detections_per_img": 120}, max_dets=120) == []


def test_max_dets_belongs_to_cocos_metrics(source):
    with pytest.raises(ValueError, match="max_dets must be at least 1, not 0"):
        _notes(source, max_dets=0)
    with pytest.raises(ValueError, match="max_dets is an option of COCO's metrics"):
        _notes(source, metrics="crowd", max_dets=200)

"""``jaxdet data``: what it prints, writes and exits with."""

import argparse
import json

import pytest
from PIL import Image

from jaxdet.cli import data

CONFIG = """
from jaxdet.data import CocoFiles
from jaxdet.models import detector_config
from jaxdet.runs import TrainConfig


def config():
    model = detector_config("fasterrcnn_mobilenet_v1_fpn", min_size=32, max_size=32, backbone_width=0.25)
    return TrainConfig(model=model, train=CocoFiles("nowhere.json", "nowhere"), steps=1, batch_size=1)
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "config.py").write_text(CONFIG)
    (tmp_path / "train").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "train" / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 32, "width": 32}],
        "annotations": [{"id": 5, "image_id": 1, "category_id": 1, "bbox": [4, 4, 0, 8]}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "train.json").write_text(json.dumps(content, indent=0))

    def run(*options):
        parser = argparse.ArgumentParser()
        data.add_arguments(parser)
        return data.run(parser.parse_args([str(tmp_path / "config.py"), "--data", str(tmp_path), *options]))

    return run


def test_errors_give_status_one_and_warnings_none(run, tmp_path, capsys):
    report = tmp_path / "new" / "report.json"
    assert run("--check", "--workers", "0", "--json", str(report)) == 1
    out = capsys.readouterr().out
    line = (tmp_path / "train.json").read_text().splitlines().index('"id": 5,')  # the brace is one line further up
    assert f"error degenerate-box: {tmp_path / 'train.json'}:{line}: image a.png (id 1), annotation 5: box" in out
    assert "warning no-boxes: train: no image of the set has a box (1 images)" in out  # without the faulty one
    assert out.endswith("1 error, 1 warning\n")
    written = json.loads(report.read_text())
    assert written["errors"] == 1 and written["sets"][0]["faults"][0]["line"] == line
    Image.new("L", (32, 32)).save(tmp_path / "train" / "a.png")
    assert run("--check", "--workers", "0", "--set", "skip_faulty=True") == 0
    assert capsys.readouterr().out.endswith("0 errors, 2 warnings, 1 box left out (skip_faulty)\n")
    assert run("--check", "--no-decode", "--set", "skip_faulty=True") == 0
    assert "0 errors, 1 warning, 1 box left out (skip_faulty); the images were not decoded" in capsys.readouterr().out


def test_show_draws_a_page(run, tmp_path, capsys):
    page = tmp_path / "page.png"
    assert run("--show", "--out", str(page), "--count", "1", "--set", "skip_faulty=True") == 0
    with Image.open(page) as image:
        assert image.size[0] > 32
    assert str(page) in capsys.readouterr().out


def test_it_has_to_be_said_what_to_do(run):
    with pytest.raises(ValueError, match="--check finds faults, --show draws"):
        run()
    with pytest.raises(ValueError, match="--workers must be at least 0, not -1"):
        run("--check", "--workers", "-1")

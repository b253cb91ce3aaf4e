"""The limit for the pixels of an image: it is named, can be changed, and holds in worker processes."""

import json
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxdet.cli.__main__ import main
from jaxdet.data import BatchPlan, CocoDataset, DataError, load_batches, read_image, set_max_pixels
from jaxdet.data.batching.sizing import ShortestSide
from jaxdet.data.images import read_image_size
from jaxdet.data_report import inspection


@pytest.fixture(autouse=True)
def pillows_own_limit(monkeypatch):
    """Set again after each test."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


def _header_of(path, height, width):
    """A PNG that has not a pixel of what it promises."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")))
    os.truncate(path, 2**20)  # as many bytes as so many pixels may take, or the header is refused


def test_large_images_are_refused_with_the_way_to_read_them(tmp_path):
    _header_of(tmp_path / "a.png", 14_000, 14_000)
    for read in (read_image, read_image_size):
        with pytest.raises(DataError) as caught:
            read(tmp_path / "a.png")
        text = str(caught.value)
        assert "(196000000 pixels) exceeds limit of 178956970 pixels" in text and "\n" not in text
        assert "--max-pixels" in text and "jaxdet.data.set_max_pixels" in text and "remove" not in text
    for limit in (196_000_000, None):
        set_max_pixels(limit)
        assert read_image_size(tmp_path / "a.png") == (14_000, 14_000)
    set_max_pixels(195_999_998)
    with pytest.raises(DataError, match="exceeds limit of 195999998 pixels"):
        read_image_size(tmp_path / "a.png")
    with pytest.raises(ValueError, match="at least 1, not 0"):
        set_max_pixels(0)


def test_worker_processes_take_the_limit_over(many_images, monkeypatch):
    dataset = CocoDataset(*many_images)
    set_max_pixels(1000)
    plan = BatchPlan(dataset.sizes, 4, ShortestSide((48,), 64))
    with pytest.raises(DataError, match="exceeds limit of 1000 pixels"):
        list(load_batches(dataset, plan, 0, 2, workers=1))
    monkeypatch.setattr(inspection, "IMAGES_PER_PROCESS", 10)
    faults = inspection.image_faults(dataset, workers=2, progress=False)
    assert len(faults) == len(dataset) and all("exceeds limit of 1000" in fault.problem for fault in faults)


def test_commands_take_it_as_an_option(tmp_path, capsys):
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "a.png")
    content = {"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1, "name": "cat"}], "annotations": []}
    for name in ("train", "val"):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        (tmp_path / name).mkdir()
        Image.open(tmp_path / "a.png").save(tmp_path / name / "a.png")
    command = ["data", "finetune", "--data", str(tmp_path), "--check", "--workers", "0", "--max-pixels"]
    assert main([*command, "2398"]) == 1
    assert "exceeds limit of 2398 pixels" in capsys.readouterr().out
    main([*command, "2400"])
    assert "exceeds limit" not in capsys.readouterr().out
    assert main([*command, "0"]) == 1 and "at least 1, not 0" in capsys.readouterr().err

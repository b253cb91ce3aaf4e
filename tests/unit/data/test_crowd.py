"""Drawn crowds: hundreds of heads, lists that read back, and the same images from the same seed."""

import numpy as np
import pytest

from jaxdet.data import HeadList, draw_crowds, read_image


def test_crowds(tmp_path):
    draw_crowds(tmp_path / "a", images_train=9, images_val=1, seed=3)
    dataset = HeadList(str(tmp_path / "a" / "train.txt")).open()
    assert dataset.faults == () and len(dataset) == 9
    counts = [len(record.labels) for record in dataset.records]
    assert counts[8] == 0 and min(counts[:8]) > 30 and max(counts) > 150
    assert any(len(record.ignored) for record in dataset.records)
    assert any(len(record.truth.boxes) < len(record.boxes) for record in dataset.records)  # half hidden heads
    draw_crowds(tmp_path / "b", images_train=2, images_val=0, seed=3)
    again = HeadList(str(tmp_path / "b" / "train.txt")).open()
    np.testing.assert_array_equal(again.records[1].boxes, dataset.records[1].boxes)
    np.testing.assert_array_equal(read_image(again.records[1].path), read_image(dataset.records[1].path))
    with pytest.raises(ValueError, match="at least 64 x 64"):
        draw_crowds(tmp_path, size=(63, 64))

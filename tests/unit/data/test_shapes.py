"""The drawn dataset."""

import hashlib
import itertools

import numpy as np
import pytest

from jaxdet.data import CocoDataset, draw_shapes
from jaxdet.data.synthetic.shapes import draw_image


def _digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_seed_draws_the_same_files(tmp_path):
    for name, seed, train in (("a", 0, 8), ("b", 0, 12), ("c", 1, 8)):
        draw_shapes(tmp_path / name, images_train=train, images_val=3, seed=seed)
    a, b, c = (_digest(tmp_path / name) for name in "abc")
    assert set(a) == {
        "train.json",
        "val.json",
        *(f"train/{i:05d}.jpg" for i in range(8)),
        *(f"val/{i:05d}.jpg" for i in range(3)),
    }
    assert a["val.json"] == b["val.json"]
    images = [name for name in a if name.endswith("jpg")]
    assert all(a[name] == b[name] != c[name] for name in images)
    assert len({a[name] for name in images}) == len(images)


def test_it_is_an_ordinary_coco_folder_within_its_promises(tmp_path):
    draw_shapes(tmp_path, images_train=80, images_val=1, size=(96, 128))
    dataset = CocoDataset(tmp_path / "train.json", tmp_path / "train")
    assert dataset.names == ("__background__", "ring", "square", "triangle") and len(dataset) == 80
    counts = [len(record.labels) for record in dataset.records]
    assert counts.count(0) == 4 and set(counts) == {0, 1, 2, 3, 4}
    assert dataset.sizes.min() >= 96 and dataset.sizes.max() <= 128
    assert {label for record in dataset.records for label in record.labels.tolist()} == {1, 2, 3}
    for record in dataset.records:
        sides = (record.boxes[:, 2:] - record.boxes[:, :2]).max(1)
        assert ((sides > 23.9) & (sides < 64.1)).all()
        for a, b in itertools.combinations(record.boxes, 2):
            shared = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
            assert shared <= 0.081 * min((a[2:] - a[:2]).prod(), (b[2:] - b[:2]).prod())
    assert dataset[0].image.shape[:2] == tuple(dataset.sizes[0])


def test_boxes_lie_tightly_around_what_is_painted(monkeypatch):
    """White shapes on a black ground, where no shadow shows: what is bright is the shape."""
    monkeypatch.setattr("jaxdet.data.synthetic.shapes.textured_ground", lambda generator, h, w: np.zeros((h, w, 3)))
    monkeypatch.setattr("jaxdet.data.synthetic.shapes._COLOURS", ((255, 255, 255),))
    for seed in range(12):
        image, boxes, labels = draw_image(np.random.default_rng(seed), 110, 120, 1)
        bright = image.max(-1) > 60
        rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
        painted = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        assert len(boxes) == len(labels) == 1
        np.testing.assert_allclose(painted, boxes[0], atol=3.0 if labels[0] == 3 else 1.5)


def test_sizes_are_checked(tmp_path):
    with pytest.raises(ValueError, match="at least 64 pixels in ascending order"):
        draw_shapes(tmp_path, size=(128, 96))

"""Packed datasets: everything that the loader and the evaluation see is what it was."""

from __future__ import annotations

import pickle

import jax
import numpy as np
import pytest
from PIL import Image

from jaxdet.data import (
    BatchPlan,
    ClassFolder,
    CocoDataset,
    DataError,
    Examples,
    HeadList,
    PackedFolder,
    find_sources,
    ground_truth,
    load_batches,
)
from jaxdet.data.batching.sizing import ShortestSide
from jaxdet.data.formats.packed import shard_name
from jaxdet.data_report.pack import pack


@pytest.fixture
def dataset(write_coco):
    crowd = {"bbox": [5, 6, 7, 8], "category_id": 3, "iscrowd": 1, "segmentation": {"counts": "x", "size": [1, 1]}}
    box = {"bbox": [1, 2, 10, 5.3], "category_id": 7, "area": 31.7, "segmentation": [[1, 2, 3, 4, 5, 6]]}
    return CocoDataset(
        *write_coco({"a.png": (20, 30, [box, crowd]), "empty.png": (40, 20, []), "b.png": (30, 20, [box])})
    )


def test_images_and_annotations_come_back(dataset, tmp_path):
    assert pack(dataset, tmp_path / "train", shard_bytes=1, progress=False) == (1, 1, 1)
    packed = PackedFolder(str(tmp_path / "train")).open()
    assert packed.names == dataset.names and packed.category_ids == dataset.category_ids
    for before, after, record in zip(dataset, packed, packed.records, strict=True):
        for name in ("image", "boxes", "labels", "ignored"):
            old, new = getattr(before, name), getattr(after, name)
            np.testing.assert_array_equal(old, new)
            assert old.dtype == new.dtype and old.shape == new.shape
        assert (before.image_id, before.path) == (after.image_id, after.path) == (record.image_id, record.path)
    for index, record in enumerate(dataset.records):
        with open(record.path, "rb") as file:
            assert packed.encoded(index) == file.read()
    truth = ground_truth(packed)
    assert [(entry["area"], entry["iscrowd"]) for entry in truth["annotations"] if "area" in entry] == [(31.7, 0)] * 2
    assert sum(entry["iscrowd"] for entry in truth["annotations"]) == 1 and "segmentation" not in str(truth)


def test_what_evaluation_ignores_stays_ignored(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text("# a.png\n1 2 9 9 0\n11 2 19 9 1\n21 2 29 9 -1\n")
    dataset = HeadList(str(tmp_path / "list.txt")).open()
    pack(dataset, tmp_path / "val", progress=False)
    (before,), (after,) = dataset.records, PackedFolder(str(tmp_path / "val")).open().records
    assert len(after.boxes) == 2 and len(after.truth.boxes) == 1 and len(after.truth.ignored) == 2
    for name in ("boxes", "labels", "ignored"):
        np.testing.assert_array_equal(getattr(before.truth, name), getattr(after.truth, name))


def test_the_loader_gives_the_same_batches(dataset, tmp_path):
    pack(dataset, tmp_path / "train", progress=False)
    packed, val = find_sources(tmp_path)
    assert val is None and packed == PackedFolder(str(tmp_path / "train"))
    plan = BatchPlan(dataset.sizes, 2, ShortestSide((32,), 64, square=True))
    for workers in (0, 1):
        batches = load_batches(packed.open(), plan, 0, 2, workers=workers)
        for expected, found in zip(load_batches(dataset, plan, 0, 2), batches, strict=True):
            jax.tree.map(np.testing.assert_array_equal, expected, found)


def test_arrays_are_packed_without_loss_and_classes_with_their_labels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    entry = {"image": pixels, "boxes": [[1, 1, 5, 6]], "labels": [1], "image_id": 77}
    pack(Examples([entry], ("thing",)).open(), tmp_path / "boxes", progress=False)
    (example,) = PackedFolder(str(tmp_path / "boxes")).open()
    np.testing.assert_array_equal(example.image, pixels)
    assert example.image_id == 77 and example.labels.tolist() == [1]
    for name in ("ant", "bee"):
        (tmp_path / "tree" / name).mkdir(parents=True)
        Image.new("RGB", (6, 4), "red" if name == "bee" else "blue").save(tmp_path / "tree" / name / "x.png")
    pack(ClassFolder(str(tmp_path / "tree")).open(), tmp_path / "classes", progress=False)
    classes = pickle.loads(pickle.dumps(PackedFolder(str(tmp_path / "classes")).open()))
    assert classes.names == ("ant", "bee") and [item.label for item in classes] == [0, 1]
    assert classes[1].image[0, 0].tolist() == [255, 0, 0] and classes.inspect(0) == []


def test_nothing_is_left_of_a_set_that_cannot_be_packed(dataset, tmp_path):
    (tmp_path / "images" / "b.png").unlink()
    with pytest.raises(DataError, match=r"b\.png: no such image file"):
        pack(dataset, tmp_path / "train", progress=False)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["annotations.json", "images"]
    with pytest.raises(DataError, match="exists and is not empty"):
        pack(dataset, tmp_path / "images", progress=False)


def test_damage_is_told(dataset, tmp_path):
    folder = tmp_path / "train"
    pack(dataset, folder, shard_bytes=1, progress=False)
    (folder / shard_name(1)).write_bytes(b"nothing of the kind")
    packed = PackedFolder(str(folder)).open()
    assert packed[0].image_id == 10
    with pytest.raises(DataError, match=r"pictures-00001\.array_record: image 1 cannot be read .*pack the dataset"):
        packed[1]
    (folder / shard_name(1)).unlink()
    with pytest.raises(DataError, match=r"pictures-00001\.array_record is missing\); pack it again"):
        PackedFolder(str(folder)).open()
    with pytest.raises(DataError, match="no packed dataset there"):
        PackedFolder(str(tmp_path / "images")).open()

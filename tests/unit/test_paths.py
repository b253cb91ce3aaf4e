"""Paths that are URLs: what is read from a bucket, and what is written to one."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import fake_bucket
from jaxdet.data import ClassFolder, CocoFiles, DataError, VocFolder, YoloFolder, find_sources, ground_truth
from jaxdet.data.formats.packed import PackedDataset
from jaxdet.data_report.pack import pack
from jaxdet.evaluation import CocoEvaluator
from jaxdet.paths import Listing, is_remote, to_path, write_whole
from jaxdet.plots import plot_losses
from jaxdet.runs.journal import CURVE_FILE, TENSORBOARD, Journal
from jaxdet.runs.record import check_record, keep_record
from jaxdet.saving.disk import put_in_place, remove
from jaxdet.saving.growing import Lines
from jaxdet.saving.resolve import find_weights
from jaxdet.saving.run_folder import METRICS_FILE, read_rows
from jaxdet.visualize import save_image


@pytest.fixture
def bucket():
    """The URL of an empty bucket in memory."""
    fake_bucket.install()
    to_path("gs://pictures/root").mkdir(parents=True)
    return "gs://pictures/root"


def _upload(folder, url):
    for file in folder.rglob("*"):
        if file.is_file():
            target = to_path(f"{url}/{file.relative_to(folder)}")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())


def _coco(folder):
    (folder / "train").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "train" / "a.png")
    box = {"id": 1, "image_id": 5, "category_id": 2, "bbox": [1, 2, 10, 12], "iscrowd": 0, "area": 120}
    image = {"id": 5, "file_name": "a.png", "height": 20, "width": 30}
    content = {"images": [image], "annotations": [box], "categories": [{"id": 2, "name": "cat"}]}
    (folder / "train.json").write_text(json.dumps(content))
    return content


def test_urls_stay_urls(tmp_path):
    assert is_remote("gs://b/x") and not is_remote(tmp_path)
    assert str(to_path("gs://b/x") / "y") == "gs://b/x/y" and to_path(str(tmp_path)) == tmp_path


def test_weights_files_are_not_read_from_a_bucket(bucket, tmp_path):
    to_path(f"{bucket}/m.pth").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"root/m.pth: weights files in buckets are not supported"):
        find_weights(f"{bucket}/m.pth")
    assert find_weights(bucket) == bucket  # a model's folder may lie there
    with pytest.raises(ValueError, match=r"root/n.pth: no such file or folder"):
        find_weights(f"{bucket}/n.pth")


def test_coco_from_a_bucket(bucket, tmp_path):
    content = _coco(tmp_path / "set")
    _upload(tmp_path / "set", bucket)
    train, val = find_sources(bucket)
    assert train == CocoFiles(f"{bucket}/train.json", f"{bucket}/train") and val is None
    here, there = CocoFiles(str(tmp_path / "set" / "train.json"), str(tmp_path / "set" / "train")).open(), train.open()
    np.testing.assert_array_equal(there[0].image, here[0].image)
    np.testing.assert_array_equal(there[0].boxes, [[1, 2, 11, 14]])
    assert ground_truth(there) == content and CocoEvaluator(f"{bucket}/train.json").category_ids == (-1, 2)
    to_path(f"{bucket}/train/a.png").unlink()
    with pytest.raises(DataError, match=r"train\.json:1: image a\.png .*gs://pictures/root/train/a\.png is missing"):
        train.open()


def test_class_folders_and_voc_from_a_bucket(bucket, tmp_path):
    for name in ("ant/x.png", "bee/deep/y.png"):
        (tmp_path / "classes" / name).parent.mkdir(parents=True)
        Image.new("RGB", (6, 4), "red").save(tmp_path / "classes" / name)
    _upload(tmp_path / "classes", f"{bucket}/classes")
    dataset = ClassFolder(f"{bucket}/classes").open()
    assert dataset.names == ("ant", "bee") and dataset.records[1].path == f"{bucket}/classes/bee/deep/y.png"
    assert dataset[1].image.shape == (4, 6, 3)
    voc = tmp_path / "voc"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (voc / folder).mkdir(parents=True)
    (voc / "ImageSets/Main/train.txt").write_text("one\n")
    Image.new("RGB", (30, 20)).save(voc / "JPEGImages" / "one.jpg")
    box = "<xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax>"
    (voc / "Annotations/one.xml").write_text(f"<a><object><name>cow</name><bndbox>{box}</bndbox></object></a>")
    _upload(voc, f"{bucket}/voc")
    assert find_sources(f"{bucket}/voc") == (VocFolder(f"{bucket}/voc", "train"), None)
    (example,) = VocFolder(f"{bucket}/voc", "train").open()
    assert example.boxes.tolist() == [[0, 1, 9, 8]] and example.image.shape == (20, 30, 3)
    _upload(voc / "Annotations", f"{bucket}/train")
    _upload(voc / "JPEGImages", f"{bucket}/train")
    assert [len(source.open()) for source in find_sources(bucket) if source is not None] == [1]  # beside each other
    with pytest.raises(DataError, match="YOLO folders in buckets are not supported"):
        YoloFolder(f"{bucket}/yolo", "train").open()


def test_packing_into_a_bucket(bucket, tmp_path):
    """Its index is read from there; the shards are, by ArrayRecord's own client, which has no bucket in memory."""
    _coco(tmp_path)
    train, _ = find_sources(tmp_path)
    pack(train.open(), f"{bucket}/packed/train", progress=False)
    source, _ = find_sources(f"{bucket}/packed")
    dataset = source.open()
    assert isinstance(dataset, PackedDataset) and dataset.image_ids == (5,)
    pack(train.open(), tmp_path / "packed", progress=False)
    for file in (tmp_path / "packed").iterdir():
        assert to_path(f"{bucket}/packed/train/{file.name}").read_bytes() == file.read_bytes()


def test_a_journal_in_a_bucket_appears_and_goes_on(bucket):
    """An object cannot grow: rows wait until it is written anew, at the latest when the journal is closed."""
    out = to_path(bucket)
    journal = Journal(out, 0, 3, 2, progress=False)
    for step in (1, 2, 3):
        journal.train(step, {"loss": 3.0 / step, "learning_rate": 0.1})
    journal.show()
    assert read_rows(out / METRICS_FILE) == []
    journal.close()
    assert [row["step"] for row in read_rows(out / METRICS_FILE)] == [1, 2, 3]
    assert (out / CURVE_FILE).read_bytes().startswith(b"\x89PNG") and any((out / TENSORBOARD).iterdir())
    journal = Journal(out, 2, 3, 2, progress=False)  # which takes the third back
    journal.evaluation(2, {"AP": 0.5}, ("AP",))
    journal.close()
    assert read_rows(out / METRICS_FILE)[-1] == {"step": 2, "val/AP": 0.5}
    record = {"format": 2, "config": {"seed": 0}, "data": {"pictures": 1, "digest": "x"}}
    keep_record(out, record)
    with pytest.raises(ValueError, match=r"gs://pictures/root has a run with another configuration.*seed"):
        check_record(out, {**record, "config": {"seed": 1}})


def test_files_appear_whole(bucket, tmp_path):
    for folder in (to_path(bucket), tmp_path):
        write_whole(folder / "a", b"one")
        write_whole(folder / "a", b"two")
        save_image(np.zeros((4, 6, 3), np.uint8), folder / "picture.png")
        plot_losses([{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}], folder / "losses.png")
        lines = Lines(folder / "lines", ["first"])
        lines.add("second")
        lines.flush(now=True)
        assert (folder / "lines").read_text() == "first\nsecond\n"
        lines.close()
        assert (folder / "a").read_bytes() == b"two"
        assert sorted(entry.name for entry in folder.iterdir()) == ["a", "lines", "losses.png", "picture.png"]
        files = Listing()
        assert f"{folder}/a" in files and f"{folder}/b" not in files and f"{folder}/none/a" not in files


def test_a_folder_is_renamed_with_all_that_is_in_it(bucket, tmp_path):
    for root in (to_path(bucket), tmp_path):
        for content in ("old", "new"):
            staging = root / ".staging" / "arrays"
            staging.mkdir(parents=True)
            (staging / "a").write_text(content)
            put_in_place(root / ".staging", root / "model")
        assert (root / "model" / "arrays" / "a").read_text() == "new"
        assert [entry.name for entry in root.iterdir()] == ["model"]
        remove(root / "model")
        remove(root / "model")  # which is no error
        assert not (root / "model").exists()

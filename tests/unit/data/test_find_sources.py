"""Data sets found by the layout of their folder."""

import pytest
from PIL import Image

from jaxdet.data import ClassFolder, CocoFiles, DataError, VocFolder, YoloFolder, draw_shapes, find_sources


def _touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("names: [a]\nval: x\n" if name.endswith("yaml") else "{}")


@pytest.mark.parametrize(
    ("file", "images", "val"),
    [
        ("annotations/instances_{}2017.json", "{}2017", "val"),
        ("annotations/instances_{}2014.json", "{}2014", "val"),
        ("annotations/instances_{}.json", "{}", "val"),
        ("{}.json", "{}", "val"),
        ("{}/_annotations.coco.json", "{}", "valid"),
    ],
)
def test_coco(tmp_path, file, images, val):
    for split in ("train", val):
        _touch(tmp_path, file.format(split), f"{images.format(split)}/a.png")
    expected = (
        CocoFiles(str(tmp_path / file.format(split)), str(tmp_path / images.format(split))) for split in ("train", val)
    )
    assert find_sources(tmp_path) == tuple(expected)


def test_the_newer_coco_counts_and_a_set_without_validation_has_none(tmp_path):
    _touch(tmp_path, *(f"annotations/instances_train{year}.json" for year in (2014, 2017)))
    _touch(tmp_path, "train2014/a.png", "train2017/a.png", "annotations/instances_val2017.json")  # no val2017/
    train, val = find_sources(tmp_path)
    assert train.images.endswith("train2017") and val is None


def test_voc(tmp_path):
    _touch(tmp_path, "ImageSets/Main/train.txt", "ImageSets/Main/val.txt")
    assert find_sources(tmp_path) == (VocFolder(str(tmp_path), "train"), VocFolder(str(tmp_path), "val"))


def test_yolo_comes_before_the_folders_it_has(tmp_path):
    _touch(tmp_path, "data.yaml", "train/images/a.png", "train/labels/a.txt")
    assert find_sources(tmp_path) == (YoloFolder(str(tmp_path), "train"), YoloFolder(str(tmp_path), "val"))


def test_class_folders_agree_on_their_labels(tmp_path):
    for name in ("train/ant", "train/bee", "val/bee"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name / "a.png")
    train, val = find_sources(tmp_path)
    assert train == ClassFolder(str(tmp_path / "train"), ("ant", "bee"))
    assert [record.label for record in val.open().records] == [1]


def test_what_is_found_opens(tmp_path):
    draw_shapes(tmp_path, images_train=2, images_val=1)
    train, val = find_sources(tmp_path)
    assert len(train.open()) == 2 and len(val.open()) == 1


def test_what_was_looked_for_is_listed(tmp_path):
    _touch(tmp_path, "train.json", "notes.txt")  # no train/
    with pytest.raises(DataError) as caught:
        find_sources(tmp_path)
    text = str(caught.value)
    assert "\n" not in text
    for part in (
        "annotations/instances_train2017.json with train2017/",
        "train.json with train/",
        "train/_annotations.coco.json",
        "ImageSets/Main/train.txt",
        "data.yaml",
        "train/CLASS/",
        "found: notes.txt, train.json",
    ):
        assert part in text
    with pytest.raises(DataError, match="no such folder"):
        find_sources(tmp_path / "nowhere")

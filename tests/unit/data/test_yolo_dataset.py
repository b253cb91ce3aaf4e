"""YOLO folders: the layouts that are met, and what is said about lines that are wrong."""

import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from jaxdet.data import DataError, YoloFolder, ground_truth

CAT, DOG = 1, 2


@pytest.fixture
def write_yolo(tmp_path):
    """A function that writes images and label files from {split: {stem: (height, width, lines or None)}}."""

    def write(splits, **description):
        description = {"names": ["cat", "dog"], **{split: f"images/{split}" for split in splits}, **description}
        for split, images in splits.items():
            for folder in ("images", "labels"):
                (tmp_path / folder / split).mkdir(parents=True, exist_ok=True)
            for stem, (height, width, lines) in images.items():
                Image.new("RGB", (width, height)).save(tmp_path / "images" / split / f"{stem}.png")
                if lines is not None:
                    (tmp_path / "labels" / split / f"{stem}.txt").write_text("\n".join(lines))
        (tmp_path / "data.yaml").write_text(yaml.safe_dump(description))
        return tmp_path

    return write


def test_boxes_polygons_and_images_without_either(write_yolo):
    lines = ["1 0.5 0.5 0.2 0.5", "", "0 0.1 0.1 0.3 0.1 0.3 0.6 0.2 0.9"]
    root = write_yolo({"train": {"a": (20, 40, lines), "b": (8, 8, []), "c": (9, 7, None)}})
    dataset = YoloFolder(str(root), "train").open()
    assert dataset.names == ("__background__", "cat", "dog") and dataset.category_ids == (-1, 0, 1)
    np.testing.assert_array_equal(dataset.sizes, [[20, 40], [8, 8], [9, 7]])
    example = dataset[0]
    np.testing.assert_allclose(example.boxes, [[16, 5, 24, 15], [4, 2, 12, 18]], rtol=1e-6)
    assert example.labels.tolist() == [DOG, CAT] and example.image.shape == (20, 40, 3)
    assert dataset[1].boxes.shape == dataset[2].boxes.shape == (0, 4) and dataset.image_ids == (1, 2, 3)
    assert [entry["category_id"] for entry in ground_truth(dataset)["annotations"]] == [1, 0]
    assert YoloFolder(str(root / "data.yaml"), "train").open().image_ids == dataset.image_ids


def test_names_by_number_keep_their_numbers(write_yolo):
    root = write_yolo({"val": {"a": (10, 10, ["7 .5 .5 .5 .5", "2.0 .5 .5 1 1"])}}, names={7: "seven", 2: "two"})
    dataset = YoloFolder(str(root), "val").open()
    assert dataset.names[1:] == ("two", "seven") and dataset.category_ids == (-1, 2, 7)
    assert dataset[0].labels.tolist() == [2, 1]


def test_classes_may_share_a_name_which_is_told(write_yolo):
    root = write_yolo({"val": {"a": (10, 10, ["1 .5 .5 .5 .5"])}}, names=["fish", "fish"])
    dataset = YoloFolder(str(root), "val").open()
    assert dataset[0].labels.tolist() == [2]
    (fault,) = dataset.faults
    assert (fault.kind, fault.severity) == ("shared-name", "warning")
    assert "class 1 has the name 'fish' of class 0" in str(fault)


def test_of_lines_with_keypoints_the_box_is_taken(write_yolo):
    line = "0 .5 .5 .4 .4 " + " ".join(["0.9"] * 4)
    root = write_yolo({"train": {"a": (10, 10, [line])}}, kpt_shape=[2, 2])
    np.testing.assert_allclose(YoloFolder(str(root), "train").open()[0].boxes, [[3, 3, 7, 7]], rtol=1e-6)
    root = write_yolo({"train": {"a": (10, 10, ["0 .5 .5 .4 .4"])}}, kpt_shape=None, nc=None)  # null is missing
    np.testing.assert_allclose(YoloFolder(str(root), "train").open()[0].boxes, [[3, 3, 7, 7]], rtol=1e-6)


def test_exif_turned_images_have_the_size_that_is_seen(write_yolo):
    root = write_yolo({"train": {"a": (20, 30, ["0 .5 .5 .5 .5"])}})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(root / "images" / "train" / "a.png", exif=exif)
    dataset = YoloFolder(str(root), "train").open()
    assert dataset.records[0].size == (30, 20) and dataset[0].image.shape == (30, 20, 3)
    assert dataset[0].boxes.tolist() == [[5, 7.5, 15, 22.5]]


def test_splits_are_folders_lists_or_several(write_yolo):
    splits = {name: {name[0]: (8, 8, ["0 .5 .5 .5 .5"])} for name in ("north", "south")}
    root = write_yolo(splits, train=["images/north", "south.txt"], val="../images/south", path="gone/elsewhere")
    (root / "south.txt").write_text("./images/south/s.png\n\n" + str(root / "images" / "north" / "n.png") + "\n")
    dataset = YoloFolder(str(root), "train").open()
    assert [record.path[-5:] for record in dataset.records] == ["n.png", "s.png", "n.png"]
    assert dataset.places([0, 1, 2]) == [
        (str(root / "images" / "north" / "n.png"), None),
        (str(root / "south.txt"), 1),
        (str(root / "south.txt"), 3),
    ]
    assert len(YoloFolder(str(root), "val").open()) == 1  # ../ as exports write it


def test_of_two_folders_called_images_the_last_has_the_labels_beside_it(write_yolo, tmp_path):
    root = write_yolo({"train": {"a": (8, 8, ["0 .5 .5 .5 .5"])}})
    inner = tmp_path / "other" / "images" / "set"
    for name in ("images", "labels", "data.yaml"):
        copy = shutil.copytree if (root / name).is_dir() else shutil.copy
        inner.mkdir(parents=True, exist_ok=True)
        copy(root / name, inner / name)
    assert YoloFolder(str(inner), "train").open()[0].boxes.tolist() == [[2, 2, 6, 6]]


def test_faults_name_file_and_line(write_yolo):
    lines = [
        "0 .5 .5 .5 .5",
        "1 .5 .5 0 .5",
        "0 .9 .5 .5 .5",
        "0 nan .5 .5 .5",
        "0 .5 .5 .5",
        "dog .5 .5 .5 .5",
        "",
        "0 .5 .5 .5 .5 .5",
    ]
    root = write_yolo({"train": {"a": (100, 100, lines)}})
    with pytest.raises(DataError, match="6 faulty boxes") as caught:
        YoloFolder(str(root), "train").open()
    file = str(root / "labels" / "train" / "a.txt")
    assert [(fault.kind, fault.file, fault.line) for fault in caught.value.faults] == [
        ("degenerate-box", file, 2),
        ("outside-box", file, 3),
        ("non-finite-box", file, 4),
        ("malformed-box", file, 5),
        ("malformed-box", file, 6),
        ("malformed-box", file, 8),
    ]
    assert f"{file}:2: image a.png: box from" in str(caught.value)
    dataset = YoloFolder(str(root), "train").open(skip_faulty=True)
    assert dataset.skipped == 6 and len(dataset[0].boxes) == 1


def test_lines_are_those_that_editors_number(write_yolo):
    root = write_yolo({"train": {"a": (10, 10, ["0 .5 .5 .5 .5\x0c", "7 .5 .5 .5 .5"])}})
    with pytest.raises(DataError, match=r"a\.txt:2: .*has class 7"):
        YoloFolder(str(root), "train").open()


def test_what_is_no_box_always_refuses(write_yolo):
    labelled = {stem: (8, 8, ["0 .5 .5 .5 .5"]) for stem in "abc"}
    root = write_yolo({"train": labelled}, train="list.txt")
    (root / "list.txt").write_text("".join(f"images/train/{stem}.png\n" for stem in "abcd"))
    (root / "labels" / "train" / "a.txt").write_text("2 .5 .5 .5 .5")
    (root / "labels" / "train" / "c.txt").write_bytes(b"\xff\xfe\xfa")
    (root / "images" / "train" / "b.png").write_text("no image")
    with pytest.raises(DataError, match="4 faults; correct them:") as caught:
        YoloFolder(str(root), "train").open(skip_faulty=True)
    assert [(fault.kind, fault.file[-8:], fault.line) for fault in caught.value.faults] == [
        ("unknown-category", "in/a.txt", 1),
        ("unreadable-image", "list.txt", 2),
        ("unreadable-annotation", "in/c.txt", None),
        ("missing-image", "list.txt", 4),
    ]
    assert "has class 2, but data.yaml has 0..1" in str(caught.value)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"names": None}, "no class names"),
        ({"names": ["cat", True]}, "class 1 has the name True"),
        ({"names": {"cat": 0}}, "class 'cat' has the name 0"),
        ({"nc": 3}, "nc is 3, but there are 2 names"),
        ({"nc": "2"}, "nc is '2'; expected the number"),
        ({"nc": True, "names": ["cat"]}, "nc is True; expected the number"),
        ({"train": None, "val": "images"}, "no split 'train'; it has val"),
        ({"train": "pictures"}, "'train' names pictures, but there is no .*pictures"),
        ({"train": "empty"}, "'train' is empty, which has no images"),
        ({"train": "bare"}, r"none of the 1 images of 'train' has a label file; .*x\.png, it would be .*x\.txt"),
        ({"kpt_shape": 17}, "kpt_shape is 17; expected a list"),
    ],
)
def test_descriptions_that_are_wrong(write_yolo, description, message):
    root = write_yolo({"train": {"a": (8, 8, [])}}, **description)
    (root / "empty").mkdir()
    (root / "bare").mkdir()
    Image.new("RGB", (8, 8)).save(root / "bare" / "x.png")
    with pytest.raises(DataError, match=rf"data\.yaml: {message}") as caught:
        YoloFolder(str(root), "train").open()
    assert "\n" not in str(caught.value)


def test_files_that_are_no_description(tmp_path):
    with pytest.raises(DataError, match=r"no data\.yaml"):
        YoloFolder(str(tmp_path), "train").open()
    (tmp_path / "data.yaml").write_text("names: [a\ntrain: x\n")
    with pytest.raises(DataError, match=r"data\.yaml:2: not YAML"):
        YoloFolder(str(tmp_path), "train").open()
    (tmp_path / "data.yaml").write_text("- a")
    with pytest.raises(DataError, match=r"data\.yaml: contains a list"):
        YoloFolder(str(tmp_path), "train").open()

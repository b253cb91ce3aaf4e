"""Pascal VOC folders, drawn by hand and real."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxdet.data import DataError, VocDataset, to_coco


@pytest.fixture
def write_voc(tmp_path):
    """A function that writes one split from {stem: (height, width, [(name, corners), ...])}."""

    def write(images, split="train", size=True):
        for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for stem, (height, width, objects) in images.items():
            Image.new("RGB", (width, height)).save(tmp_path / "JPEGImages" / f"{stem}.jpg")
            written = "".join(
                f"<object><name>{name}</name><bndbox>"
                + "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
                + "</bndbox></object>\n"
                for name, corners in objects
            )
            shape = f"<size><width>{width}</width><height>{height}</height></size>" if size else ""
            (tmp_path / "Annotations" / f"{stem}.xml").write_text(f"<annotation>\n{shape}\n{written}</annotation>")
        (tmp_path / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(images) + "\n\n")
        return tmp_path

    return write


@pytest.mark.parametrize("size", [True, False])
def test_corners_are_taken_as_they_stand(write_voc, size):
    root = write_voc({"a": (20, 30, [("dog", (1, 2, 30, 20)), ("cat", (5, 6, 7.5, 8))]), "b": (8, 9, [])}, size=size)
    dataset = VocDataset(root, "train")
    assert dataset.names == ("__background__", "cat", "dog") and dataset.category_ids == (-1, 1, 2)
    np.testing.assert_array_equal(dataset.sizes, [[20, 30], [8, 9]])
    np.testing.assert_array_equal(dataset[0].boxes, np.float32([[1, 2, 30, 20], [5, 6, 7.5, 8]]))
    assert dataset[0].labels.tolist() == [2, 1] and dataset[1].boxes.shape == (0, 4)
    content = to_coco(dataset)
    assert [entry["bbox"] for entry in content["annotations"]] == [[1.0, 2.0, 29.0, 18.0], [5.0, 6.0, 2.5, 2.0]]
    assert [entry["category_id"] for entry in content["annotations"]] == [2, 1]


def test_the_name_in_the_list_decides_though_the_xml_names_another_image(write_voc):
    """As in sets whose images were renamed or copied: `<filename>` counts where the image of that name is missing."""
    root = write_voc({"a": (20, 30, [("dog", (1, 2, 3, 4))]), "b": (8, 9, [])})
    file = root / "Annotations" / "a.xml"
    file.write_text(file.read_text().replace("<annotation>", "<annotation><filename>b.jpg</filename>"))
    assert [Path(record.path).name for record in VocDataset(root, "train").records] == ["a.jpg", "b.jpg"]
    assert VocDataset(root, "train")[0].image.shape == (20, 30, 3)
    (root / "JPEGImages" / "a.jpg").rename(root / "JPEGImages" / "b2.jpg")
    file.write_text(file.read_text().replace("b.jpg", "b2.jpg"))
    assert [Path(record.path).name for record in VocDataset(root, "train").records] == ["b2.jpg", "b.jpg"]


def test_splits_agree_on_labels(write_voc):
    write_voc({"a": (20, 30, [("zebra", (1, 2, 3, 4))])}, "train")
    root = write_voc({"b": (20, 30, [("ant", (1, 2, 3, 4))])}, "val")
    assert VocDataset(root, "train")[0].labels.tolist() == [2]
    assert VocDataset(root, "val")[0].labels.tolist() == [1]
    assert VocDataset(root, "val", class_names=("zebra", "ant"))[0].labels.tolist() == [2]


def test_faults_name_file_line_and_object(write_voc):
    objects = [("dog", (1, 2, 3, 4)), ("dog", (5, 5, 5, 9)), ("cat", (1, 1, "wide", 4)), ("cat", (0, 0, 33, 5))]
    objects += [("dog", (1, "nan", 4, 5)), ("cat", (1, 1, 2, ""))]
    root = write_voc({"a": (20, 30, objects)})
    with pytest.raises(DataError, match="5 faulty boxes") as caught:
        VocDataset(root, "train")
    found = [(fault.kind, fault.line, fault.annotation, fault.problem.split(", ")[-1]) for fault in caught.value.faults]
    # The first object stands on line 3.
    assert found == [
        ("degenerate-box", 4, "object 2 (dog)", "4 high"),
        ("malformed-box", 5, "object 3 (cat)", "'4'] is not four numbers"),
        ("outside-box", 6, "object 4 (cat)", "5) sticks 3 px out of the 30 x 20 image"),
        ("non-finite-box", 7, "object 5 (dog)", "5) is not finite"),
        ("malformed-box", 8, "object 6 (cat)", "<bndbox> has no <ymax>"),
    ]
    lines = str(caught.value).splitlines()[1:]
    for line, fault in zip(lines, caught.value.faults, strict=True):
        assert f"{root / 'Annotations' / 'a.xml'}:{fault.line}: image a" in line
    dataset = VocDataset(root, "train", skip_faulty=True)
    assert dataset.skipped == 5 and dataset[0].boxes.tolist() == [[1, 2, 3, 4]]
    assert dataset.places([0]) == [(str(root / "Annotations" / "a.xml"), 2)]  # its size


@pytest.mark.parametrize("encoding", ["gb2312", "klingon"])
def test_encodings_that_cannot_be_read(write_voc, encoding):
    root = write_voc({"a": (20, 30, [("dog", (1, 2, 3, 4))])})
    file = root / "Annotations" / "a.xml"
    file.write_text(f"<?xml version='1.0' encoding='{encoding}'?>\n{file.read_text()}")
    with pytest.raises(DataError, match=r"a\.xml.*: is not XML .*encoding.*; replace the file") as caught:
        VocDataset(root, "train", class_names=("dog",))
    assert [fault.kind for fault in caught.value.faults] == ["unreadable-annotation"]


def test_errors_say_what_to_do(write_voc):
    root = write_voc({stem: (20, 30, [("dog", (1, 2, 3, 4))]) for stem in "abcd"})
    with pytest.raises(DataError, match=r"test\.txt: there is no such split; known are: train"):
        VocDataset(root, "test")
    with pytest.raises(DataError, match=r"a\.xml:3: image a, .*object 1: is a 'dog', .* the classes cat") as caught:
        VocDataset(root, "train", class_names=("cat",), skip_faulty=True)
    assert [fault.kind for fault in caught.value.faults] == ["unknown-category"] * 4
    (root / "JPEGImages" / "a.jpg").unlink()
    (root / "Annotations" / "b.xml").write_text("<annotation>\n<object>\n</annotation>")
    (root / "Annotations" / "c.xml").unlink()
    with pytest.raises(DataError, match="3 faults; correct them:") as caught:
        VocDataset(root, "train", skip_faulty=True)
    assert [(fault.kind, Path(fault.file).name, fault.line) for fault in caught.value.faults] == [
        ("missing-picture", "train.txt", 1),
        ("unreadable-annotation", "b.xml", 3),
        ("missing-annotation", "train.txt", 3),
    ]
    assert [record.image_id for record in caught.value.dataset.records] == [4]


def test_real_blood_cells_have_two_degenerate_boxes(shared):
    bccd = shared / "data" / "bccd"
    found = []
    counts = {}
    for split in ("train", "val"):
        try:
            VocDataset(bccd, split)
        except DataError as error:
            found += error.faults
        dataset = VocDataset(bccd, split, skip_faulty=True)
        counts[split] = len(dataset)
        assert dataset.names == ("__background__", "Platelets", "RBC", "WBC")
        example = dataset[0]
        assert example.image.shape == (480, 640, 3) and len(example.boxes) > 0
    assert counts == {"train": 205, "val": 87}
    assert sorted(Path(fault.file).stem for fault in found) == ["BloodImage_00338", "BloodImage_00343"]
    for fault in found:
        assert fault.kind == "degenerate-box" and "0 wide, 0 high" in fault.problem
        assert Path(fault.file).read_text().splitlines()[fault.line - 1].strip() == "<object>"

"""Pascal VOC folders, drawn by hand and real."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxdet.data import CocoFiles, DataError, VocDataset, VocFolder, YoloFolder, to_coco


@pytest.mark.parametrize("size", [True, False])
def test_corners_count_pixels_from_one_and_are_inclusive(write_voc, size):
    root = write_voc({"a": (20, 30, [("dog", (1, 2, 30, 20)), ("cat", (5, 6, 7.5, 8))]), "b": (8, 9, [])}, size=size)
    dataset = VocDataset(root, "train")
    assert dataset.names == ("__background__", "cat", "dog") and dataset.category_ids == (-1, 1, 2)
    np.testing.assert_array_equal(dataset.sizes, [[20, 30], [8, 9]])
    np.testing.assert_array_equal(dataset[0].boxes, np.float32([[0, 1, 30, 20], [4, 5, 7.5, 8]]))
    assert dataset[0].labels.tolist() == [2, 1] and dataset[1].boxes.shape == (0, 4)
    content = to_coco(dataset)
    assert [entry["bbox"] for entry in content["annotations"]] == [[0.0, 1.0, 30.0, 19.0], [4.0, 5.0, 3.5, 3.0]]
    assert [entry["category_id"] for entry in content["annotations"]] == [2, 1]
    plain = VocFolder(str(root), "train", one_based=False).open()
    np.testing.assert_array_equal(plain[0].boxes, np.float32([[1, 2, 30, 20], [5, 6, 7.5, 8]]))


def test_three_layouts_of_one_set_have_the_same_boxes(write_voc):
    """Pixels 3 to 12 by 5 to 8, counted from 1, of an image of 20 x 40, and the whole image."""
    root = write_voc({"a": (20, 40, [("dog", (3, 5, 12, 8)), ("dog", (1, 1, 40, 20))])})
    (root / "labels").mkdir()
    (root / "labels" / "a.txt").write_text("0 0.175 0.3 0.25 0.2\n0 .5 .5 1 1")  # middle (7, 6), 10 x 4
    (root / "images").mkdir()
    (root / "images" / "a.jpg").write_bytes((root / "JPEGImages" / "a.jpg").read_bytes())
    (root / "data.yaml").write_text("names: [dog]\ntrain: images\n")
    boxes = [[2, 4, 10, 4], [0, 0, 40, 20]]
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 20, "width": 40}],
        "annotations": [{"id": n, "image_id": 1, "category_id": 1, "bbox": box} for n, box in enumerate(boxes)],
        "categories": [{"id": 1, "name": "dog"}],
    }
    (root / "a.json").write_text(json.dumps(content))
    coco = CocoFiles(str(root / "a.json"), str(root / "images")).open()[0].boxes
    np.testing.assert_array_equal(coco, [[2, 4, 12, 8], [0, 0, 40, 20]])
    np.testing.assert_array_equal(VocFolder(str(root), "train").open()[0].boxes, coco)
    np.testing.assert_allclose(YoloFolder(str(root), "train").open()[0].boxes, coco, rtol=1e-6)


def test_corners_that_count_from_zero_are_told(write_voc):
    objects = [("dog", (1, 1, 9, 9)), ("dog", (0, 3, 9, 9)), ("dog", (3, 0, 9, 9))]
    root = write_voc({"a": (20, 30, [("dog", (1, 2, 30, 20))]), "b": (20, 30, objects)})
    dataset = VocDataset(root, "train")
    assert dataset[1].boxes.tolist() == [[0, 0, 9, 9], [0, 2, 9, 9], [2, 0, 9, 9]]  # clipped
    (fault,) = dataset.faults
    assert (fault.kind, fault.severity, fault.line) == ("zero-corner", "warning", 4) and fault.file.endswith("b.xml")
    assert "2 objects with xmin or ymin below 1, of which this is the first" in str(
        fault
    ) and "pass one_based=False" in str(fault)
    assert VocDataset(root, "train", one_based=False).faults == ()


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
        VocDataset(root, "train", one_based=False)
    found = [(fault.kind, fault.line, fault.annotation, fault.problem.split(", ")[-1]) for fault in caught.value.faults]
    # The first object stands on line 3.
    assert found == [
        ("degenerate-box", 4, "object 2 (dog)", "4 high"),
        ("malformed-box", 5, "object 3 (cat)", "'4'] is not four numbers"),
        ("outside-box", 6, "object 4 (cat)", "5) exceeds the 30 x 20 image by 3 px"),
        ("non-finite-box", 7, "object 5 (dog)", "5) is not finite"),
        ("malformed-box", 8, "object 6 (cat)", "<bndbox> has no <ymax>"),
    ]
    lines = str(caught.value).splitlines()[1:]
    for line, fault in zip(lines, caught.value.faults, strict=True):
        assert f"{root / 'Annotations' / 'a.xml'}:{fault.line}: image a" in line
    dataset = VocDataset(root, "train", one_based=False, skip_faulty=True)
    assert dataset.skipped == 5 and dataset[0].boxes.tolist() == [[1, 2, 3, 4]]
    with pytest.raises(DataError, match="4 faulty boxes") as caught:  # the first of them is one pixel wide
        VocDataset(root, "train")
    kinds = [
        (fault.kind, fault.line) for fault in caught.value.faults if fault.kind in ("one-pixel-box", "outside-box")
    ]
    assert kinds == [("one-pixel-box", 4), ("outside-box", 6)]
    assert "box from (-1, -1) to (33, 5) exceeds the 30 x 20 image by 3 px (as edges from 0" in str(caught.value)
    assert dataset.places([0]) == [(str(root / "Annotations" / "a.xml"), 2)]  # its size


def test_errors_say_what_to_do(write_voc):
    root = write_voc({stem: (20, 30, [("dog", (1, 2, 3, 4))]) for stem in "abcd"})
    with pytest.raises(DataError, match=r"test\.txt: no such split; known: train"):
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
        ("missing-image", "train.txt", 1),
        ("unreadable-annotation", "b.xml", 3),
        ("missing-annotation", "train.txt", 3),
    ]
    assert [record.image_id for record in caught.value.dataset.records] == [4]


def test_real_blood_cells_have_two_boxes_of_one_pixel(shared):
    bccd = shared / "data" / "bccd"
    found = []
    counts = {}
    for split in ("train", "val"):
        dataset = VocDataset(bccd, split)
        found += dataset.faults
        counts[split] = len(dataset)
        assert dataset.names == ("__background__", "Platelets", "RBC", "WBC")
        example = dataset[0]
        assert example.image.shape == (480, 640, 3) and len(example.boxes) > 0
    assert counts == {"train": 205, "val": 87}
    assert sorted(Path(fault.file).stem for fault in found) == ["BloodImage_00338", "BloodImage_00343"]
    for fault in found:
        assert fault.kind == "one-pixel-box" and fault.severity == "warning"
        assert Path(fault.file).read_text().splitlines()[fault.line - 1].strip() == "<object>"
    with pytest.raises(DataError, match="has no area: 0 wide, 0 high"):
        VocDataset(bccd, "train", one_based=False)

"""Pascal VOC folders, drawn by hand and real."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxdet.data import DataError, VocDataset, to_coco

BCCD = Path(__file__).resolve().parents[4] / "shared" / "data" / "bccd"


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
                + "</bndbox></object>"
                for name, corners in objects
            )
            shape = f"<size><width>{width}</width><height>{height}</height></size>" if size else ""
            (tmp_path / "Annotations" / f"{stem}.xml").write_text(f"<annotation>{shape}{written}</annotation>")
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


def test_splits_agree_on_labels(write_voc):
    write_voc({"a": (20, 30, [("zebra", (1, 2, 3, 4))])}, "train")
    root = write_voc({"b": (20, 30, [("ant", (1, 2, 3, 4))])}, "val")
    assert VocDataset(root, "train")[0].labels.tolist() == [2]
    assert VocDataset(root, "val")[0].labels.tolist() == [1]
    assert VocDataset(root, "val", class_names=("zebra", "ant"))[0].labels.tolist() == [2]


def test_faults_name_file_and_object(write_voc):
    objects = [("dog", (1, 2, 3, 4)), ("dog", (5, 5, 5, 9)), ("cat", (1, 1, "wide", 4)), ("cat", (0, 0, 33, 5))]
    root = write_voc({"a": (20, 30, objects)})
    with pytest.raises(DataError, match="3 faulty") as caught:
        VocDataset(root, "train")
    lines = str(caught.value).splitlines()[1:]
    assert all(str(root / "Annotations" / "a.xml") in line for line in lines)
    assert "object 2 (dog)" in lines[0] and "0 wide" in lines[0]
    assert "object 3 (cat)" in lines[1] and "not four numbers" in lines[1]
    assert "object 4 (cat)" in lines[2] and "sticks 3 px out" in lines[2]
    dataset = VocDataset(root, "train", skip_faulty=True)
    assert dataset.skipped == 3 and dataset[0].boxes.tolist() == [[1, 2, 3, 4]]


def test_errors_say_what_to_do(write_voc):
    root = write_voc({"a": (20, 30, [("dog", (1, 2, 3, 4))])})
    with pytest.raises(DataError, match=r"test\.txt: there is no such split; known are: train"):
        VocDataset(root, "test")
    with pytest.raises(DataError, match=r"a\.xml: object 1 is a 'dog', which is not among the classes cat"):
        VocDataset(root, "train", class_names=("cat",))
    (root / "JPEGImages" / "a.jpg").unlink()
    with pytest.raises(DataError, match=r"a\.jpg: the image of annotation a\.xml is missing"):
        VocDataset(root, "train")
    (root / "Annotations" / "a.xml").write_text("<annotation>")
    with pytest.raises(DataError, match=r"a\.xml: is not XML"):
        VocDataset(root, "train")


@pytest.mark.skipif(not BCCD.is_dir(), reason=f"the blood cell images are not at {BCCD}")
def test_real_blood_cells_have_two_degenerate_boxes():
    found = []
    counts = {}
    for split in ("train", "val"):
        try:
            VocDataset(BCCD, split)
        except DataError as error:
            found += error.faults
        dataset = VocDataset(BCCD, split, skip_faulty=True)
        counts[split] = len(dataset)
        assert dataset.names == ("__background__", "Platelets", "RBC", "WBC")
        example = dataset[0]
        assert example.image.shape == (480, 640, 3) and len(example.boxes) > 0
    assert counts == {"train": 205, "val": 87}
    assert sorted(Path(fault.file).stem for fault in found) == ["BloodImage_00338", "BloodImage_00343"]
    assert all("0 wide, 0 high" in fault.problem for fault in found)

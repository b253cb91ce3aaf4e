"""Class folders, torchvision's ImageFolder layout."""

import pytest
from PIL import Image

from jaxdet.data import ClassFolder, ClassificationDataset, DataError


@pytest.fixture
def root(tmp_path):
    for name in ("dog/b.png", "dog/a.JPG", "dog/deep/c.png", "ant/z.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4)).save(path)
    (tmp_path / "dog" / "notes.txt").write_text("no image")
    (tmp_path / ".cache").mkdir()
    return tmp_path


def test_folders_are_classes_in_sorted_order(root):
    dataset = ClassFolder(str(root)).open()
    assert isinstance(dataset, ClassificationDataset) and dataset.names == ("ant", "dog") and len(dataset) == 4
    assert [(record.path.removeprefix(f"{root}/"), record.label) for record in dataset.records] == [
        ("ant/z.png", 0),
        ("dog/a.JPG", 1),
        ("dog/b.png", 1),
        ("dog/deep/c.png", 1),
    ]
    example = dataset[1]
    assert example.image.shape == (4, 6, 3) and example.label == 1 and example.path == str(root / "dog" / "a.JPG")
    assert dataset.faults == () and dataset.inspect(0) == []


def test_class_names_give_the_order_and_empty_classes_are_told(root):
    dataset = ClassFolder(str(root), ("dog", "bee", "ant")).open()
    assert [record.label for record in dataset.records] == [0, 0, 0, 2]
    (fault,) = dataset.faults
    assert fault.kind == "empty-class" and fault.severity == "warning" and fault.file == str(root / "bee")


def test_folders_that_are_wrong(root):
    with pytest.raises(DataError, match=r"dog: is not among the classes ant; add it") as caught:
        ClassFolder(str(root), ("ant",)).open(skip_faulty=True)
    assert [fault.kind for fault in caught.value.faults] == ["unknown-category"]
    assert len(caught.value.dataset) == 1
    with pytest.raises(DataError, match="no such folder"):
        ClassFolder(str(root / "cow")).open()
    with pytest.raises(DataError, match=r"no images .*expected a folder for each class"):
        ClassFolder(str(root / ".cache")).open()
    with pytest.raises(DataError, match="has a duplicate"):
        ClassFolder(str(root), ("ant", "dog", "ant")).open()


def test_images_that_are_wrong(root):
    (root / "ant" / "z.png").write_bytes(b"")
    (root / "dog" / "b.png").unlink()
    Image.new("L", (6, 4)).save(root / "dog" / "b.png")
    dataset = ClassFolder(str(root)).open()
    assert [[problem.kind for problem in dataset.inspect(index)] for index in range(4)] == [
        ["unreadable-image"],
        [],
        ["colour-mode"],
        [],
    ]
    assert dataset.places([0]) == [(str(root / "ant" / "z.png"), None)]

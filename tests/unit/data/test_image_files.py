"""What counts as an image file: one rule for datasets of every layout and for detection."""

import os
from pathlib import Path

import pytest
from PIL import Image

from jaxdet.cli.models import image_files
from jaxdet.data import ClassFolder, DataError, YoloFolder
from jaxdet.data.image_files import find_files, find_images

KEPT = ["a.jpg", "b.JPEG", "c.Png", "deep/d.webp", "deep/er/e.TIFF", "f.bmp"]
SKIPPED = [
    "$RECYCLE.BIN/a.jpg",
    "._a.jpg",
    ".Trash-1000/files/a.jpg",
    ".hidden.png",
    "@eaDir/a.jpg/thumb.jpg",
    "__MACOSX/deep/a.jpg",
    "__MACOSX/deep/._a.jpg",
    "deep/._d.webp",
    "deep/.ipynb_checkpoints/d-checkpoint.webp",
]
OTHER = ["notes.txt", "Thumbs.db", ".DS_Store", "deep/desktop.ini", "a.jpg.txt"]


@pytest.fixture
def fill(tmp_path):
    """A function that writes such files into a folder of the test's."""

    def write(folder, names=(*KEPT, *SKIPPED, *OTHER)):
        for name in names:
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            suffix = path.suffix.lower()
            if suffix in (".txt", ".db", ".ini", ""):
                path.write_text("no image")
            else:
                Image.new("RGB", (6, 4)).save(path)
        return tmp_path / folder

    return write


def _names(paths, root):
    return [os.path.relpath(path, root) for path in paths]


def test_hidden_and_system_files_are_left_out_and_counted(fill):
    root = fill(".cache/images")  # that the folder itself is hidden does not matter
    found = find_images(root)
    assert _names(found.paths, root) == KEPT
    assert sorted(_names(found.skipped, root)) == sorted(SKIPPED)
    (fault,) = found.skipped_faults()
    assert (fault.kind, fault.severity, fault.file) == ("skipped-files", "warning", str(root))
    assert (
        "hidden and system files are left out: 9 ($RECYCLE.BIN/a.jpg, .Trash-1000/files/a.jpg, ._a.jpg, ...)"
        in fault.problem
    )
    assert find_images(root / "deep" / "er").skipped_faults() == []
    assert _names(find_files(root, (".db",)).skipped, root) == ["Thumbs.db"]


def test_links_are_followed_and_never_in_circles(fill, tmp_path):
    root, other = fill("images", ["a.jpg", "deep/d.jpg"]), fill("other", ["o.jpg"])
    (root / "deep" / "up").symlink_to(root)
    (root / "more").symlink_to(other)
    (root / "gone.jpg").symlink_to(tmp_path / "gone.jpg")
    assert _names(find_images(root).paths, root) == ["a.jpg", "deep/d.jpg", "gone.jpg", "more/o.jpg"]


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path):
    with pytest.raises(DataError, match="nowhere: cannot be listed"):
        find_images(tmp_path / "nowhere")


def test_yolo_has_no_negatives_from_hidden_copies(fill, tmp_path):
    fill("images/train")
    (tmp_path / "labels" / "train").mkdir(parents=True)
    (tmp_path / "labels" / "train" / "a.txt").write_text("0 .5 .5 .5 .5")
    (tmp_path / "data.yaml").write_text("names: [cat]\ntrain: images/train\n")
    dataset = YoloFolder(str(tmp_path), "train").open()
    assert _names([record.path for record in dataset.records], tmp_path / "images" / "train") == KEPT
    assert [(str(fault.kind), fault.file) for fault in dataset.faults] == [
        ("skipped-files", str(tmp_path / "images" / "train"))
    ]


def test_class_folders_have_no_hidden_classes_or_images(fill, tmp_path):
    fill("cat")
    fill("__MACOSX/cat", ["x.jpg"])
    fill(".ipynb_checkpoints", ["y.jpg"])
    dataset = ClassFolder(str(tmp_path)).open()
    assert dataset.names == ("cat",) and len(dataset) == len(KEPT)
    (fault,) = dataset.faults
    assert f"left out: {len(SKIPPED) + 2} (" in fault.problem


def test_detection_takes_the_same_files(fill, tmp_path, capsys):
    root = fill("images")
    extra = fill("other", [".single.jpg"]) / ".single.jpg"
    assert image_files([str(root), str(extra)]) == [*(root / name for name in KEPT), Path(extra)]  # given: taken
    assert "hidden and system files are left out: 9" in capsys.readouterr().err
    with pytest.raises(ValueError, match="no images in this folder"):
        image_files([str(tmp_path / "other")])

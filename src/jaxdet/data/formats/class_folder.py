"""Classification datasets, and folders with one folder per class (torchvision's ``ImageFolder`` layout)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxdet.data.faults import DataError, Fault, FaultKind, Problem, refuse_faults
from jaxdet.data.image_files import find_images, is_system_name
from jaxdet.data.images import IMAGE_SUFFIXES, image_problems, read_file, read_image
from jaxdet.paths import to_path


@dataclass(frozen=True)
class LabelledPath:
    """A labelled image file."""

    path: str
    label: int  # 0..K-1


@dataclass(frozen=True)
class LabelledImage:
    """A decoded image with its label."""

    image: np.ndarray  # [H, W, 3] uint8 RGB
    label: int  # 0..K-1
    path: str


class ClassificationDataset:
    """A sequence of labelled images, decoded on access. Labels are 0..K-1; there is no background.

    Args:
        records: one per image, in the order of the dataset.
        names: class names by label.
        faults: the faults of the source.

    Raises:
        DataError: faults that are not warnings, all listed.
    """

    def __init__(self, records: Sequence[LabelledPath], names: Sequence[str], *, faults: Sequence[Fault] = ()) -> None:
        self.records = tuple(records)
        self.names = tuple(names)
        self.faults = tuple(faults)
        refuse_faults(self.faults, skip_faulty=False, dataset=self)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> LabelledImage:
        """Decodes image ``index``. Raises DataError if it cannot be read."""
        record = self.records[index]
        return LabelledImage(read_image(record.path), record.label, record.path)

    def encoded(self, index: int) -> bytes:
        """The encoded image file ``index``. Raises DataError if it cannot be read."""
        return read_file(self.records[index].path)

    def inspect(self, index: int) -> list[Problem]:
        """The problems of image ``index``, which is decoded."""
        return image_problems(lambda: self[index], self.records[index].path)

    def places(self, indices: Sequence[int]) -> list[tuple[str, int | None]]:
        """The file and line where the annotations of each image begin: the image files."""
        return [(self.records[index].path, None) for index in indices]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} images, {len(self.names)} classes)"


def read_class_folder(root: str | Path, class_names: Sequence[str] | None = None) -> ClassificationDataset:
    """Reads a folder of class folders, in torchvision's order.

    Args:
        root: its folders are the classes, with images at any depth. Other files are ignored; hidden and system files
            are left out (`jaxdet.data.image_files`).
        class_names: the folders in the order of their labels; by default all, sorted.

    Raises:
        DataError: no such folder, a folder that is not a class, or no images.
    """
    root = to_path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give one with a folder for each class")
    folders = class_folders(root)
    names = tuple(folders if class_names is None else class_names)
    if len(set(names)) != len(names):
        raise DataError(f"class_names has a duplicate: {', '.join(names)}")
    faults = [
        Fault(
            FaultKind.UNKNOWN_CATEGORY, str(root / name), None, f"is not among the classes {', '.join(names)}; add it"
        )
        for name in folders
        if name not in names
    ]
    found = find_images(root)
    faults += found.skipped_faults()
    members: dict[str, list[str]] = {name: [] for name in names}
    for path in found.paths:
        folder = path[len(os.fspath(root)) :].lstrip("/").partition("/")[0]
        if folder in members:
            members[folder].append(path)
    records = []
    for label, (name, paths) in enumerate(members.items()):
        if not paths:
            faults.append(Fault(FaultKind.EMPTY_CLASS, str(root / name), None, "the class has no images"))
        paths.sort(key=lambda path: path.rpartition("/")[::2])  # torchvision's order: folder by folder
        records += [LabelledPath(path, label) for path in paths]
    if not records:
        suffixes = ", ".join(IMAGE_SUFFIXES)
        raise DataError(f"{root}: no images ({suffixes}); expected a folder for each class, with its images")
    return ClassificationDataset(records, names, faults=faults)


def class_folders(root: Path) -> tuple[str, ...]:
    """The sorted names of the folders in ``root``; none if it does not exist."""
    if not root.is_dir():
        return ()
    return tuple(sorted(path.name for path in root.iterdir() if path.is_dir() and not is_system_name(path.name)))

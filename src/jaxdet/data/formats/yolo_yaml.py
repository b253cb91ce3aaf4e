"""Reading the ``data.yaml`` of YOLO folders: class names and the images of each split."""

from __future__ import annotations

import math
import os
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxdet.data.faults import DataError, Fault
from jaxdet.data.formats.yaml_text import read_yaml, yaml_value
from jaxdet.data.image_files import find_images
from jaxdet.paths import is_remote, read_lines

_MOST_CLASSES = 1_000_000  # limit of nc without names
YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml")

Place = tuple[str, int | None]  # file, and line from 1


@dataclass(frozen=True)
class YoloDescription:
    """The content of a ``data.yaml``.

    file: the yaml file; folder: the absolute folder that its paths are relative to.
    names: class names by number, from 0.
    keypoints: the number of values after the box in each line.
    """

    file: Path
    folder: Path
    names: Mapping[int, str]
    keypoints: int
    content: Mapping[str, Any]

    def images(self, split: str) -> tuple[list[tuple[str, Place]], list[Fault]]:
        """The images of a split in order, each with the file and line that lists it (or the image itself).

        There is a warning for each folder with files that are left out (`jaxdet.data.image_files`).

        Raises:
            DataError: no such split, or one of its paths does not exist.
        """
        value = self.content.get(split)
        if value is None:
            known = [key for key in ("train", "val", "test") if self.content.get(key)]
            raise DataError(f"{self.file}: no split {split!r}; it has {', '.join(known) or 'no splits'}")
        images: list[tuple[str, Place]] = []
        faults: list[Fault] = []
        for entry in value if isinstance(value, list) else [value]:
            if not isinstance(entry, str):
                raise DataError(f"{self.file}: {split!r} has {reprlib.repr(entry)}; expected the path of images")
            path = self._resolve(entry, split)
            try:
                if not path.is_dir():
                    images += self._in_list(path)
                    continue
                found = find_images(path)
            except DataError as error:
                raise DataError(f"{self.file}: {split!r} names {entry}: {error}") from None
            images += [(file, (file, None)) for file in found.paths]
            faults += found.skipped_faults()
        if not images:
            shown = value if isinstance(value, str) else reprlib.repr(value)
            raise DataError(f"{self.file}: {split!r} is {shown}, which has no images; correct it")
        return images, faults

    def _resolve(self, entry: str, split: str) -> Path:
        # Exports write ../train/images for train/images; Ultralytics accepts this, too.
        candidates = [self.folder / entry, self.folder / entry.removeprefix("../"), self.file.parent / entry]
        for path in candidates:
            if os.path.exists(path):  # unlike Path.exists, False for a name that is too long
                return Path(os.path.abspath(path))
        raise DataError(f"{self.file}: {split!r} names {entry}, but there is no {os.path.abspath(candidates[0])}")

    def _in_list(self, path: Path) -> Iterator[tuple[str, Place]]:
        if not path.is_file():  # such as a device, which could be read forever
            raise DataError(f"{path}: neither a folder nor a file")
        try:
            lines = read_lines(path)
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read as a list of images ({error})") from None
        for number, line in enumerate(lines, start=1):
            if line.strip():
                candidates = [os.path.abspath(folder / line.strip()) for folder in (path.parent, self.folder)]
                found = next(filter(os.path.isfile, candidates), candidates[0])
                yield found, (str(path), number)


def find_yaml(root: str | Path) -> Path | None:
    """The yaml file of a folder, or ``root`` if it is a file."""
    if Path(root).is_file():
        return Path(root)
    return next((Path(root) / name for name in YAML_NAMES if (Path(root) / name).is_file()), None)


def read_description(root: str | Path) -> YoloDescription:
    """Reads the ``data.yaml`` of a folder; ``root`` is the folder or the yaml file.

    Raises:
        DataError: there is none, or it does not define the classes.
    """
    if is_remote(root):
        raise DataError(
            f"{root}: YOLO folders in buckets are not supported; copy it to a disk, or pack it (jaxdet data --pack)"
        )
    file = find_yaml(root)
    if file is None:
        raise DataError(f"{root}: no {' or '.join(YAML_NAMES)} there; give the folder of one, or the yaml file")
    try:
        node = read_yaml(file)
        content = None if node is None else yaml_value(file, node)
    except ValueError as error:
        raise DataError(str(error)) from None
    if not isinstance(content, Mapping):
        raise DataError(f"{file}: contains a {type(content).__name__}; expected keys names, train and val")
    folder = file.parent
    given = content.get("path")
    if given:
        if not isinstance(given, str):
            raise DataError(f"{file}: path is {reprlib.repr(given)}; expected the path of a folder")
        # Without such a folder (the dataset was moved), the folder of the yaml file.
        folder = next((path for path in (folder / given, Path(given)) if os.path.isdir(path)), folder)
    return YoloDescription(
        file, Path(os.path.abspath(folder)), _names(file, content), _keypoints(file, content), content
    )


def _names(file: Path, content: Mapping[str, Any]) -> dict[int, str]:
    names, count = content.get("names"), content.get("nc")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if names is None and type(count) is int and count <= _MOST_CLASSES:
        names = {number: f"class_{number}" for number in range(count)}
    if not isinstance(names, Mapping) or not names:
        raise DataError(f"{file}: no class names; expected names, a list or a mapping from numbers to names")
    for number, name in names.items():
        if type(number) is not int or number < 0 or isinstance(name, bool) or not isinstance(name, (str, int)):
            shown, named = reprlib.repr(number), reprlib.repr(name)
            raise DataError(f"{file}: class {shown} has the name {named}; expected a number from 0 and a string")
    if count is not None and type(count) is not int:
        raise DataError(f"{file}: nc is {reprlib.repr(count)}; expected the number of classes")
    if count is not None and count != len(names):
        raise DataError(f"{file}: nc is {reprlib.repr(count)}, but there are {len(names)} names; correct one of them")
    return {number: str(name) for number, name in names.items()}


def _keypoints(file: Path, content: Mapping[str, Any]) -> int:
    shape = [0] if content.get("kpt_shape") is None else content["kpt_shape"]
    if not isinstance(shape, list) or not all(type(side) is int and side >= 0 for side in shape):
        raise DataError(f"{file}: kpt_shape is {reprlib.repr(shape)}; expected a list of two numbers")
    return math.prod(shape)

"""Packed data sets: pictures in a few large ArrayRecord files, which a bucket or a network disk delivers faster than
many small ones, beside one index of all annotations.

A folder holds ``index.json``, ``pictures-00000.array_record`` and so on (a record is a picture's file, as it was) and,
where the source had one, the COCO ground truth. `jaxdet.runs.pack` writes it.

Any process opens the whole index, and reads the pictures that it needs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from jaxdet.data.class_folder import ClassificationDataset, LabelledImage, LabelledPath
from jaxdet.data.coco_format import read_coco_json
from jaxdet.data.dataset import DetectionDataset, Example, Record, Truth, no_boxes
from jaxdet.data.faults import DataError, Problem
from jaxdet.data.pictures import picture_problems, read_image
from jaxdet.paths import PathLike, to_path

INDEX_FILE, GROUND_TRUTH_FILE = "index.json", "ground_truth.json"
FORMAT = 1
_BOXES, _LABELS = "boxes", "labels"


def shard_name(number: int) -> str:
    """Of the file with the pictures of a shard, from 0."""
    return f"pictures-{number:05d}.array_record"


class PackedPictures:
    """The pictures of a packed folder, by their position; it pickles, and threads may share it."""

    def __init__(self, folder: PathLike, shards: Sequence[int]) -> None:
        self.folder, self.shards = str(to_path(folder)), tuple(shards)

    @cached_property
    def _source(self) -> Any:
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        files = [str(to_path(self.folder) / shard_name(number)) for number in range(len(self.shards))]
        return ArrayRecordDataSource([f"{file}[0:{count}]" for file, count in zip(files, self.shards, strict=True)])

    def __getitem__(self, index: int) -> bytes:
        """Raises DataError where the shard is missing or damaged."""
        try:
            return self._source[index]
        except Exception as error:  # the library's own kinds are those of C++
            shard = int(np.searchsorted(np.cumsum(self.shards), index, side="right"))
            text = f"picture {index} cannot be read ({error}); pack the data set again"
            raise DataError(f"{to_path(self.folder) / shard_name(shard)}: {text}") from error

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "shards": self.shards}


class PackedDataset(DetectionDataset):
    """Pictures with boxes. Records, classes and ids are those of the data set that was packed."""

    def __init__(self, folder: PathLike, content: dict[str, Any]) -> None:
        self.pictures = PackedPictures(folder, content["shards"])
        records = [_record(entry) for entry in content["pictures"]]
        super().__init__(records, content["names"], content["category_ids"])

    def __getitem__(self, index: int) -> Example:
        record = self.records[index]
        image = read_image(record.path, record.size, content=self.pictures[index])
        return Example(image, record.boxes, record.labels, record.image_id, record.path, record.ignored)

    def encoded(self, index: int) -> bytes:
        return self.pictures[index]

    def own_ground_truth(self) -> dict[str, Any] | None:
        file = to_path(self.pictures.folder) / GROUND_TRUTH_FILE
        return read_coco_json(file) if file.exists() else None

    def inspect(self, index: int) -> list[Problem]:
        return picture_problems(lambda: self[index], "")

    def places(self, indices: Sequence[int]) -> list[tuple[str, int | None]]:
        return [(str(to_path(self.pictures.folder) / INDEX_FILE), None) for _ in indices]


class PackedClasses(ClassificationDataset):
    """Pictures with one label each."""

    def __init__(self, folder: PathLike, content: dict[str, Any]) -> None:
        self.pictures = PackedPictures(folder, content["shards"])
        super().__init__([LabelledPath(**entry) for entry in content["pictures"]], content["names"])

    def __getitem__(self, index: int) -> LabelledImage:
        record = self.records[index]
        return LabelledImage(read_image(record.path, content=self.pictures[index]), record.label, record.path)

    def encoded(self, index: int) -> bytes:
        return self.pictures[index]

    def inspect(self, index: int) -> list[Problem]:
        return picture_problems(lambda: self[index], "")


def is_packed(folder: PathLike) -> bool:
    """Whether a folder holds a packed data set."""
    return (to_path(folder) / INDEX_FILE).exists()


def open_packed(folder: PathLike) -> PackedDataset | PackedClasses:
    """The data set that was packed into a folder.

    Raises:
        DataError: there is none, or it is not complete.
    """
    file = to_path(folder) / INDEX_FILE
    try:
        content = json.loads(file.read_bytes())
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, and this version reads {FORMAT}")
        missing = [name for name in map(shard_name, range(len(content["shards"]))) if not (file.parent / name).exists()]
        if missing or sum(content["shards"]) != len(content["pictures"]):
            raise ValueError(f"{missing[0] if missing else 'a picture'} is missing")
        return (PackedDataset if content["kind"] == _BOXES else PackedClasses)(folder, content)
    except FileNotFoundError:
        raise DataError(f"{file}: there is no packed data set; jaxdet data CONFIG --pack DIR makes one") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: the packed data set does not read ({error}); pack it again") from error


def index_content(dataset: DetectionDataset | ClassificationDataset, shards: Sequence[int]) -> dict[str, Any]:
    """What ``index.json`` says of a data set whose shards have so many pictures each."""
    content: dict[str, Any] = {"format": FORMAT, "shards": list(shards), "names": list(dataset.names)}
    if isinstance(dataset, ClassificationDataset):
        entries = [{"path": record.path, "label": record.label} for record in dataset.records]
        return {**content, "kind": _LABELS, "pictures": entries}
    pictures = [
        {
            "id": record.image_id,
            "path": record.path,
            "size": list(record.size),
            **_entry(record),
            "judged": None if record.judged is None else _entry(record.judged),
        }
        for record in dataset.records
    ]
    return {**content, "kind": _BOXES, "category_ids": list(dataset.category_ids), "pictures": pictures}


def _entry(said: Record | Truth) -> dict[str, Any]:
    return {"boxes": said.boxes.tolist(), "labels": said.labels.tolist(), "ignored": said.ignored.tolist()}


def _truth(entry: dict[str, Any]) -> Truth:
    boxes, ignored = (np.array(entry[key], np.float32) if entry[key] else no_boxes() for key in ("boxes", "ignored"))
    return Truth(boxes, np.array(entry["labels"], np.int32), ignored)


def _record(entry: dict[str, Any]) -> Record:
    trained, (height, width) = _truth(entry), entry["size"]
    judged = None if entry["judged"] is None else _truth(entry["judged"])
    return Record(entry["id"], entry["path"], (height, width), trained.boxes, trained.labels, trained.ignored, judged)

"""Packed datasets: all images in a few large ArrayRecord files, and all annotations in one index.

Buckets and network disks read few large files faster than many small ones. A folder contains ``index.json``,
``pictures-00000.array_record`` and so on (a record is an unchanged image file) and, if the source had one, the COCO
ground truth. `jaxdet.data_report.pack` writes it.

Every process opens the whole index, and reads the images that it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from jaxdet.data.dataset import DetectionDataset, Example
from jaxdet.data.faults import DataError, Problem
from jaxdet.data.formats.class_folder import ClassificationDataset, LabelledImage
from jaxdet.data.formats.coco_format import check_boxes, read_coco_json
from jaxdet.data.formats.packed_index import check_shards, read_labelled, read_names, read_records
from jaxdet.data.images import image_problems, read_image
from jaxdet.data.objects import Objects
from jaxdet.paths import PathLike, parse_json, to_path

INDEX_FILE, GROUND_TRUTH_FILE = "index.json", "ground_truth.json"
FORMAT = 1
_BOXES, _LABELS = "boxes", "labels"


def shard_name(number: int) -> str:
    """The file name of a shard, from 0."""
    return f"pictures-{number:05d}.array_record"


class PackedImages:
    """The images of a packed folder by position. Can be pickled and shared between threads."""

    def __init__(self, folder: PathLike, shards: Sequence[int]) -> None:
        self.folder, self.shards = str(to_path(folder)), tuple(shards)

    @cached_property
    def _source(self) -> Any:
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        files = [str(to_path(self.folder) / shard_name(number)) for number in range(len(self.shards))]
        return ArrayRecordDataSource([f"{file}[0:{count}]" for file, count in zip(files, self.shards, strict=True)])

    def __getitem__(self, index: int) -> bytes:
        """The encoded image file ``index``. Raises DataError if the shard is missing or damaged."""
        try:
            return self._source[index]
        except Exception as error:  # the library raises C++ types
            shard = int(np.searchsorted(np.cumsum(self.shards), index, side="right"))
            text = f"image {index} cannot be read ({error}); pack the dataset again"
            raise DataError(f"{to_path(self.folder) / shard_name(shard)}: {text}") from error

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "shards": self.shards}


class PackedDataset(DetectionDataset):
    """A packed detection dataset. Records, classes and ids are those of the original dataset."""

    def __init__(self, folder: PathLike, content: dict[str, Any]) -> None:
        self.images = PackedImages(folder, content["shards"])
        names, category_ids = read_names(content["names"]), content["category_ids"]
        super().__init__(read_records(content["pictures"], len(names), category_ids), names, category_ids)

    def __getitem__(self, index: int) -> Example:
        record = self.records[index]
        image = read_image(record.path, record.size, content=self.images[index])
        return Example.of(image, record)

    def encoded(self, index: int) -> bytes:
        return self.images[index]

    def own_ground_truth(self) -> dict[str, Any] | None:
        """The original dataset's COCO ground truth, if any. Raises DataError if it is damaged or has other images."""
        file = to_path(self.images.folder) / GROUND_TRUTH_FILE
        if not file.exists():
            return None
        content = read_coco_json(file)
        if {image["id"] for image in content["images"]} != set(self.image_ids):
            raise DataError(f"{file}: its images differ from those of {INDEX_FILE}; pack the dataset again")
        check_boxes(content, str(file))
        return content

    def inspect(self, index: int) -> list[Problem]:
        record = self.records[index]
        return image_problems(lambda: self[index], record.path, record.size, content=lambda: self.images[index])

    def places(self, indices: Sequence[int]) -> list[tuple[str, int | None]]:
        return [(str(to_path(self.images.folder) / INDEX_FILE), None) for _ in indices]


class PackedClasses(ClassificationDataset):
    """A packed classification dataset."""

    def __init__(self, folder: PathLike, content: dict[str, Any]) -> None:
        self.images = PackedImages(folder, content["shards"])
        names = read_names(content["names"])
        super().__init__(read_labelled(content["pictures"], len(names)), names)

    def __getitem__(self, index: int) -> LabelledImage:
        record = self.records[index]
        return LabelledImage(read_image(record.path, content=self.images[index]), record.label, record.path)

    def encoded(self, index: int) -> bytes:
        return self.images[index]

    def inspect(self, index: int) -> list[Problem]:
        path = self.records[index].path
        return image_problems(lambda: self[index], path, content=lambda: self.images[index])


_KINDS: dict[str, type[PackedDataset] | type[PackedClasses]] = {_BOXES: PackedDataset, _LABELS: PackedClasses}


def is_packed(folder: PathLike) -> bool:
    """Whether a folder contains a packed dataset."""
    return (to_path(folder) / INDEX_FILE).exists()


def open_packed(folder: PathLike) -> PackedDataset | PackedClasses:
    """Opens the packed dataset in a folder.

    Raises:
        DataError: there is none, or it is incomplete or damaged.
    """
    file = to_path(folder) / INDEX_FILE
    try:
        content = parse_json(file.read_bytes())
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}, but this version reads {FORMAT}")
        check_shards(content["shards"], content["pictures"])
        missing = [name for name in map(shard_name, range(len(content["shards"]))) if not (file.parent / name).exists()]
        if missing:
            raise ValueError(f"{missing[0]} is missing")
        kind = _KINDS.get(content["kind"])
        if kind is None:
            raise ValueError(f"kind {content['kind']!r}, but this version reads {', '.join(_KINDS)}")
        return kind(folder, content)
    except FileNotFoundError:
        raise DataError(f"{file}: no packed dataset there; jaxdet data CONFIG --pack DIR creates one") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise DataError(f"{file}: the packed dataset cannot be read ({reason}); pack it again") from error


def index_content(dataset: DetectionDataset | ClassificationDataset, shards: Sequence[int]) -> dict[str, Any]:
    """The content of ``index.json``; ``shards``: the number of images of each shard."""
    content: dict[str, Any] = {"format": FORMAT, "shards": list(shards), "names": list(dataset.names)}
    if isinstance(dataset, ClassificationDataset):
        entries = [{"path": record.path, "label": record.label} for record in dataset.records]
        return {**content, "kind": _LABELS, "pictures": entries}
    images = [
        {
            "id": record.image_id,
            "path": record.path,
            "size": list(record.size),
            **_entry(record),
            "judged": None if record.judged is None else _entry(record.judged),
        }
        for record in dataset.records
    ]
    return {**content, "kind": _BOXES, "category_ids": list(dataset.category_ids), "pictures": images}


def _entry(objects: Objects) -> dict[str, Any]:
    return {"boxes": objects.boxes.tolist(), "labels": objects.labels.tolist(), "ignored": objects.ignored.tolist()}

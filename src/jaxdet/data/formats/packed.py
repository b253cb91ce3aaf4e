"""Packed datasets: images in a few large ArrayRecord files, which a bucket or a network disk delivers faster than
many small ones, beside one index of all annotations.

A folder holds ``index.json``, ``images-00000.array_record`` and so on (a record is an image's file, as it was) and,
where the source had one, the COCO ground truth. `jaxdet.data_report.pack` writes it.

Any process opens the whole index, and reads the images that it needs.
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
    """Of the file with the images of a shard, from 0."""
    return f"pictures-{number:05d}.array_record"


class PackedImages:
    """The images of a packed folder, by their position; it pickles, and threads may share it."""

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
            text = f"image {index} cannot be read ({error}); pack the dataset again"
            raise DataError(f"{to_path(self.folder) / shard_name(shard)}: {text}") from error

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "shards": self.shards}


class PackedDataset(DetectionDataset):
    """Images with boxes. Records, classes and ids are those of the dataset that was packed."""

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
        """The COCO file that was packed, if there was one. Raises DataError where it is damaged or of another set."""
        file = to_path(self.images.folder) / GROUND_TRUTH_FILE
        if not file.exists():
            return None
        content = read_coco_json(file)
        if {image["id"] for image in content["images"]} != set(self.image_ids):
            raise DataError(f"{file}: its images are not those of {INDEX_FILE}; pack the dataset again")
        check_boxes(content, str(file))
        return content

    def inspect(self, index: int) -> list[Problem]:
        record = self.records[index]
        return image_problems(lambda: self[index], record.path, record.size, content=lambda: self.images[index])

    def places(self, indices: Sequence[int]) -> list[tuple[str, int | None]]:
        return [(str(to_path(self.images.folder) / INDEX_FILE), None) for _ in indices]


class PackedClasses(ClassificationDataset):
    """Images with one label each."""

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
    """Whether a folder holds a packed dataset."""
    return (to_path(folder) / INDEX_FILE).exists()


def open_packed(folder: PathLike) -> PackedDataset | PackedClasses:
    """The dataset that was packed into a folder.

    Raises:
        DataError: there is none, or it is not complete.
    """
    file = to_path(folder) / INDEX_FILE
    try:
        content = parse_json(file.read_bytes())
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}, and this version reads {FORMAT}")
        check_shards(content["shards"], content["pictures"])
        missing = [name for name in map(shard_name, range(len(content["shards"]))) if not (file.parent / name).exists()]
        if missing:
            raise ValueError(f"{missing[0]} is missing")
        kind = _KINDS.get(content["kind"])
        if kind is None:
            raise ValueError(f"kind {content['kind']!r}, and this version reads {', '.join(_KINDS)}")
        return kind(folder, content)
    except FileNotFoundError:
        raise DataError(f"{file}: there is no packed dataset; jaxdet data CONFIG --pack DIR makes one") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise DataError(f"{file}: the packed dataset cannot be read ({reason}); pack it again") from error


def index_content(dataset: DetectionDataset | ClassificationDataset, shards: Sequence[int]) -> dict[str, Any]:
    """What ``index.json`` says of a dataset whose shards have so many images each."""
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


def _entry(said: Objects) -> dict[str, Any]:
    return {"boxes": said.boxes.tolist(), "labels": said.labels.tolist(), "ignored": said.ignored.tolist()}

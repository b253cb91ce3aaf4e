"""Datasets from sequences of mappings, such as Grain data sources."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Protocol

import numpy as np
from PIL import Image

from jaxdet.data.boxes import clean_box, clip_region, pack_objects
from jaxdet.data.dataset import BACKGROUND, DetectionDataset, Example, Record
from jaxdet.data.faults import DataError, Fault, FaultKind, Problem
from jaxdet.data.images import read_file, read_image, read_image_size

_REQUIRED = ("image", "boxes", "labels")


class RandomAccess(Protocol):
    """The interface of sequences, which lists, Grain's data sources and its ``MapDataset`` implement."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class SequenceDataset(DetectionDataset):
    """Examples from a sequence of mappings.

    An entry has ``image`` ([H, W, 3] uint8 RGB, or the path of a file), ``boxes`` [G, 4] xyxy in the image's pixels and
    ``labels`` [G] 1..K, and may have ``image_id`` (an integer; by default its position from 1) and ``ignored`` [I, 4],
    regions that are neither object nor background. Repeated access has to return the same entry.

    Args:
        sequence: the examples, which are read once at the beginning. It is pickled for worker processes.
        names: class names of labels 1..K, without the background.
        sizes: [N, 2] (height, width) of the images. With sizes, the first pass does not access ``image``, which is
            faster for entries that decode it on access.
        skip_faulty: leave out boxes that are degenerate, not finite or outside of the image, and count them in
            `skipped`, instead of raising.

    Raises:
        DataError: malformed entries or faulty boxes, all listed.
    """

    def __init__(
        self, sequence: RandomAccess, names: Sequence[str], *, sizes: Any = None, skip_faulty: bool = False
    ) -> None:
        self._sequence = sequence
        known = [None] * len(sequence) if sizes is None else _sizes(sizes, len(sequence))
        self._positions: list[int] = []
        records: list[Record] = []
        faults: list[Fault] = []
        taken: dict[int, int] = {}
        for position, size in enumerate(known):
            name = f"example {position}"
            try:
                record, wrong = _read_entry(sequence[position], position, size, len(names))
                first = taken.setdefault(record.image_id, position)
                if first != position:
                    text = f"has image_id {record.image_id}, as example {first} has; give each its own"
                    raise _unusable(text, FaultKind.DUPLICATE_IMAGE)
            except DataError as error:
                faults.append(Fault(error.faults[0].kind, name, None, str(error)))
                continue
            faults += [Fault(kind, name, None, text, annotation=item) for item, (kind, text) in wrong]
            records.append(record)
            self._positions.append(position)
        labels = range(1, len(names) + 1)
        super().__init__(records, (BACKGROUND, *names), (-1, *labels), faults=faults, skip_faulty=skip_faulty)

    def __getitem__(self, index: int) -> Example:
        """Example ``index``. Raises DataError if its image cannot be read or its size has changed."""
        record = self.records[index]
        image = self._sequence[self._positions[index]]["image"]
        if isinstance(image, (str, os.PathLike)):
            image = read_image(image, record.size)
        else:
            image = _pixels(image)
            if image.shape[:2] != record.size:
                text = f"{record.path}: its image is {image.shape[:2]}, but was {record.size} (height, width)"
                raise _unusable(text, FaultKind.IMAGE_SIZE)
        return Example.of(image, record)

    def encoded(self, index: int) -> bytes:
        """The encoded image ``index``: its file, or a PNG of its array."""
        image = self._sequence[self._positions[index]]["image"]
        if isinstance(image, (str, os.PathLike)):
            return read_file(image)
        stream = io.BytesIO()
        Image.fromarray(self[index].image).save(stream, "png")
        return stream.getvalue()


def _sizes(sizes: Any, count: int) -> list[list[int]]:
    """Checks that ``sizes`` are ``count`` pairs of positive integers. Raises DataError otherwise."""
    found = np.asarray(sizes)
    if found.dtype.kind == "f" and np.isfinite(found).all() and (found == np.trunc(found)).all():
        found = found.astype(np.int64)
    if found.shape != (count, 2) or (count and found.dtype.kind not in "iu"):
        given = f"{found.dtype} {list(found.shape)}"
        raise DataError(f"expected sizes [{count}, 2], integers, one per image of the sequence, got {given}")
    if (found < 1).any():
        position = int(np.argmax((found < 1).any(1)))
        raise DataError(f"example {position} has size {found[position].tolist()}; expected (height, width) from 1")
    return found.tolist()


def _read_entry(
    entry: Any, position: int, size: Sequence[int] | None, num_classes: int
) -> tuple[Record, list[tuple[str, Problem]]]:
    """An entry as a record, and the problems of its boxes, each with the name of the box.

    Raises:
        DataError: the entry is malformed.
    """
    if not isinstance(entry, Mapping) or not all(key in entry for key in _REQUIRED):
        given = sorted(map(str, entry)) if isinstance(entry, Mapping) else f"a {type(entry).__name__}"
        raise _unusable(f"is {given}; expected a mapping with image, boxes and labels")
    path = f"example {position}"
    if size is None:
        image = entry["image"]
        if isinstance(image, (str, os.PathLike)):
            path = os.fspath(image)
            size = read_image_size(path)
        else:
            size = _pixels(image).shape[:2]
    height, width = size
    image_id = entry.get("image_id", position + 1)
    if not isinstance(image_id, Integral) or isinstance(image_id, bool):
        raise _unusable(f"has image_id {image_id!r}; it must be an integer")
    candidates, regions = _boxes(entry["boxes"], "boxes"), _boxes(entry.get("ignored", ()), "ignored")
    given_labels = np.asarray(entry["labels"])
    if given_labels.shape != (len(candidates),) or (len(candidates) and given_labels.dtype.kind not in "iu"):
        raise _unusable(
            f"has {len(candidates)} boxes and labels {given_labels.dtype} {list(given_labels.shape)}; expected an "
            "integer per box"
        )
    boxes, labels, ignored, wrong = [], [], [], []
    for number, (box, label) in enumerate(zip(candidates, given_labels.tolist(), strict=True)):
        found = clean_box(box, (height, width))
        if not 1 <= label <= num_classes:
            problem = Problem(FaultKind.UNKNOWN_CATEGORY, f"has label {label}, which is not in 1..{num_classes}")
            wrong.append((f"box {number}", problem))
        elif isinstance(found, Problem):
            wrong.append((f"box {number}", found))
        else:
            boxes.append(found)
            labels.append(label)
    for number, box in enumerate(regions):
        found = clip_region(box, (height, width))
        if isinstance(found, Problem):
            wrong.append((f"ignored region {number}", found))
        else:
            ignored.append(found)
    packed = pack_objects(boxes, labels, ignored).annotations()
    return Record(image_id=int(image_id), path=path, size=(height, width), **packed), wrong


def _pixels(image: Any) -> np.ndarray:
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise _unusable(f"has an image of {image.dtype} {list(image.shape)}; expected uint8 [H, W, 3] RGB, or a path")
    return image


def _boxes(values: Any, key: str) -> list[list[float]]:
    try:
        found = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise _unusable(f"has {key!r} that are not numbers; expected [G, 4] xyxy") from None
    if found.size and (found.ndim != 2 or found.shape[1] != 4):
        raise _unusable(f"has {key!r} of shape {list(found.shape)}; expected [G, 4] xyxy")
    return found.reshape(-1, 4).tolist()


def _unusable(text: str, kind: FaultKind = FaultKind.MALFORMED_ENTRY) -> DataError:
    return DataError(text, [Fault(kind, "", None, text)])

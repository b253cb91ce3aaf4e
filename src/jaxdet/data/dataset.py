"""The one form in which every dataset reaches the loader: decoded examples, and an index that needs no decoding.

Axes: H W pixels of the image as it is read, G ground truths of one image, N images of the dataset. Boxes are
``(x1, y1, x2, y2)`` in pixels of the image as it is read, as continuous coordinates (a box from 0 to 10 is 10 wide).
Label 0 is the background and never occurs in an annotation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jaxdet.data.faults import DataError as DataError
from jaxdet.data.faults import Fault, Problem, refuse_faults
from jaxdet.data.images import image_problems, read_file, read_image
from jaxdet.data.objects import Objects

BACKGROUND = "__background__"


@dataclass(frozen=True, kw_only=True)
class Record(Objects):
    """What the annotations say about one image; nothing is decoded.

    size: (height, width).
    judged: what evaluation counts and ignores, where that is not what is trained on.
    """

    image_id: int
    path: str
    size: tuple[int, int]
    judged: Objects | None = None

    @property
    def truth(self) -> Objects:
        """What evaluation compares detections with; a detection in an ignored region is no error."""
        return self.objects if self.judged is None else self.judged


@dataclass(frozen=True, kw_only=True)
class Example(Objects):
    """One decoded image with its annotations.

    image: [H, W, 3] uint8 RGB.
    """

    image: np.ndarray
    image_id: int
    path: str

    @classmethod
    def of(cls, image: np.ndarray, record: Record) -> Example:
        """The example of a record whose image was decoded."""
        return cls(image=image, image_id=record.image_id, path=record.path, **record.annotations())


class DetectionDataset:
    """A sequence of examples, decoded on access, beside the index that the batch plan and evaluation work from.

    Args:
        records: one an image, in the dataset's order.
        names: class names by label; ``names[0]`` is ``"__background__"``.
        category_ids: the source's category id by label; ``category_ids[0]`` is -1.
        faults: what is wrong with the source; the records are without it.
        skip_faulty: leave out faulty boxes, and count them in `skipped`, instead of raising.

    Raises:
        DataError: there are faults, each of which is listed, that are more than warnings and not skipped; or names and
            category ids do not correspond, or two images share an id.
    """

    def __init__(
        self,
        records: Sequence[Record],
        names: Sequence[str],
        category_ids: Sequence[int],
        *,
        faults: Sequence[Fault] = (),
        skip_faulty: bool = False,
    ) -> None:
        self.records = tuple(records)
        self.names = tuple(names)
        self.category_ids = tuple(category_ids)
        self.faults = tuple(faults)
        if not self.names or self.names[0] != BACKGROUND or len(self.names) != len(self.category_ids):
            raise DataError(
                f"expected names to start with {BACKGROUND!r} and one category id a name, "
                f"got {len(self.names)} names {self.names[:4]} and {len(self.category_ids)} category ids"
            )
        self.image_ids = tuple(record.image_id for record in self.records)
        if len(set(self.image_ids)) != len(self.image_ids):
            raise DataError("two images of the dataset have the same id; give every image its own")
        refuse_faults(self.faults, skip_faulty=skip_faulty, dataset=self)

    @property
    def skipped(self) -> int:
        """How many faulty boxes were left out."""
        return sum(fault.kind.of_box for fault in self.faults)

    @cached_property
    def sizes(self) -> np.ndarray:
        """[N, 2] int32 (height, width) of every image, from the annotations."""
        return np.array([record.size for record in self.records], np.int32).reshape(-1, 2)

    @cached_property
    def max_boxes(self) -> int:
        """The largest number of boxes on one image."""
        return max((len(record.labels) for record in self.records), default=0)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Example:
        """Decodes image ``index``. Raises DataError where the file is unreadable or of another size than annotated."""
        record = self.records[index]
        return Example.of(read_image(record.path, record.size), record)

    def encoded(self, index: int) -> bytes:
        """Image ``index`` as an image file's bytes. Raises DataError where there is none."""
        return read_file(self.records[index].path)

    def own_ground_truth(self) -> dict[str, Any] | None:
        """COCO ground truth that says more than the records do; here none."""
        return None

    def inspect(self, index: int) -> list[Problem]:
        """What is wrong with image ``index``, which is decoded for it."""
        record = self.records[index]
        return image_problems(lambda: self[index], record.path, record.size)

    def places(self, indices: Sequence[int]) -> list[tuple[str, int | None]]:
        """The file and line where the annotations of these images begin; here the images themselves."""
        return [(self.records[index].path, None) for index in indices]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} images, {len(self.names) - 1} classes)"

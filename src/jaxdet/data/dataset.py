"""The parent class of detection datasets: decoded examples, and an index that needs no decoding.

Axes: H W pixels of the upright image, G ground-truth boxes of an image, N images of the dataset. Boxes are
``(x1, y1, x2, y2)`` in pixels of the upright image, in continuous coordinates (a box from 0 to 10 has width 10).
Label 0 is the background; annotations do not have it.
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
    """The annotations of one image.

    size: (height, width).
    judged: the ground truth for evaluation, if it differs from that for training.
    """

    image_id: int
    path: str
    size: tuple[int, int]
    judged: Objects | None = None

    @property
    def truth(self) -> Objects:
        """The ground truth for evaluation. Detections in ignored regions are not errors."""
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
        """The example of a record and its decoded image."""
        return cls(image=image, image_id=record.image_id, path=record.path, **record.annotations())


class DetectionDataset:
    """A sequence of examples, decoded on access, and its index for batch plan and evaluation.

    Args:
        records: one per image, in the order of the dataset.
        names: class names by label; ``names[0]`` is ``"__background__"``.
        category_ids: the source's category id by label; ``category_ids[0]`` is -1.
        faults: the faults of the source. The records do not contain faulty annotations.
        skip_faulty: leave out faulty boxes, and count them in `skipped`, instead of raising.

    Raises:
        DataError: faults that are neither warnings nor skipped, all listed; or names and category ids do not
            correspond, or two images have the same id.
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
                f"expected names to start with {BACKGROUND!r} and one category id per name, "
                f"got {len(self.names)} names {self.names[:4]} and {len(self.category_ids)} category ids"
            )
        self.image_ids = tuple(record.image_id for record in self.records)
        if len(set(self.image_ids)) != len(self.image_ids):
            raise DataError("two images of the dataset have the same id; give each image its own id")
        refuse_faults(self.faults, skip_faulty=skip_faulty, dataset=self)

    @property
    def skipped(self) -> int:
        """The number of faulty boxes that were left out."""
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
        """Decodes image ``index``. Raises DataError if it cannot be read or does not have the annotated size."""
        record = self.records[index]
        return Example.of(read_image(record.path, record.size), record)

    def encoded(self, index: int) -> bytes:
        """The encoded image file ``index``. Raises DataError if it cannot be read."""
        return read_file(self.records[index].path)

    def own_ground_truth(self) -> dict[str, Any] | None:
        """The source's COCO ground truth, which has more than the records; None without one."""
        return None

    def inspect(self, index: int) -> list[Problem]:
        """The problems of image ``index``, which is decoded."""
        record = self.records[index]
        return image_problems(lambda: self[index], record.path, record.size)

    def places(self, indices: Sequence[int]) -> list[tuple[str, int | None]]:
        """The file and line where the annotations of each image begin; here the image files."""
        return [(self.records[index].path, None) for index in indices]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} images, {len(self.names) - 1} classes)"

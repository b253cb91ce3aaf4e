"""The one form in which every dataset reaches the loader: decoded examples, and an index that needs no decoding.

Axes: H W pixels of the stored image, G ground truths of one image, N images of the dataset. Boxes are
``(x1, y1, x2, y2)`` in pixels of the stored image, as continuous coordinates (a box from 0 to 10 is 10 wide).
Label 0 is the background and never occurs in an annotation.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

BACKGROUND = "__background__"
EDGE_TOLERANCE = 1.0  # pixels by which a box may stick out of its image before it counts as a fault
_FAULTS_SHOWN = 50


def no_boxes() -> np.ndarray:
    """[0, 4] float32."""
    return np.zeros((0, 4), np.float32)


@dataclass(frozen=True)
class Fault:
    """One annotation that cannot be trained on."""

    file: str  # the annotation file
    image: str  # the image's file name or id
    annotation: str  # the annotation's id, or its number within the file
    problem: str

    def __str__(self) -> str:
        return f"{self.file}: image {self.image}, annotation {self.annotation}: {self.problem}"


class DataError(ValueError):
    """The data on disk is not what it should be; ``faults`` holds one entry a faulty annotation, if that is why."""

    def __init__(self, message: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults)


@dataclass(frozen=True)
class Record:
    """What the annotations say about one image; nothing is decoded."""

    image_id: int
    path: str
    size: tuple[int, int]  # (height, width)
    boxes: np.ndarray  # [G, 4] float32 xyxy, within the image
    labels: np.ndarray  # [G] int32, 1..K-1
    ignored: np.ndarray = field(
        default_factory=no_boxes
    )  # [I, 4] float32 xyxy: regions that are neither object nor background (crowds)


@dataclass(frozen=True)
class Example:
    """One decoded image with its annotations."""

    image: np.ndarray  # [H, W, 3] uint8 RGB
    boxes: np.ndarray  # [G, 4] float32 xyxy
    labels: np.ndarray  # [G] int32
    image_id: int
    path: str
    ignored: np.ndarray = field(default_factory=no_boxes)  # [I, 4] float32 xyxy


class DetectionDataset:
    """A sequence of examples, decoded on access, beside the index that the batch plan and evaluation work from.

    Args:
        records: one an image, in the dataset's order.
        names: class names by label; ``names[0]`` is ``"__background__"``.
        category_ids: the source's category id by label; ``category_ids[0]`` is -1.
        faults: the annotations that were left out on request.

    Raises:
        DataError: names and category ids do not correspond, or two images share an id.
    """

    def __init__(
        self,
        records: Sequence[Record],
        names: Sequence[str],
        category_ids: Sequence[int],
        *,
        faults: Sequence[Fault] = (),
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

    @property
    def skipped(self) -> int:
        """How many faulty annotations were left out."""
        return len(self.faults)

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
        image = read_image(record.path, record.size)
        return Example(image, record.boxes, record.labels, record.image_id, record.path, record.ignored)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} images, {len(self.names) - 1} classes)"


def read_image(path: str | Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Decodes an image file to [H, W, 3] uint8 RGB (grey, palette and CMYK are converted, transparency is dropped).

    The stored pixels are taken as they are, like torchvision does. Only where they do not have the annotated
    ``size`` (height, width) and the picture turned upright by its EXIF orientation does, it is turned.

    Raises:
        DataError: the file is missing, no image, cut short, or has not the annotated size.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks about unusual EXIF blocks or palettes: the pixels are fine
            with Image.open(path) as file:
                picture: Image.Image = file
                if size is not None and (file.height, file.width) != tuple(size):
                    picture = ImageOps.exif_transpose(file)
                pixels = np.array(picture.convert("RGB"))
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such image file; check the image directory") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be decoded as an image ({error}); replace or remove the file") from error
    if size is not None and pixels.shape[:2] != tuple(size):
        height, width = pixels.shape[:2]
        raise DataError(
            f"{path}: the image is {width} x {height} but its annotation says {size[1]} x {size[0]} (width x height); "
            "correct the annotation or restore the image it was made for"
        )
    return pixels


def read_image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of the stored pixels from the file's header. Raises DataError as `read_image` does."""
    try:
        with Image.open(path) as file:
            return file.height, file.width
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such image file; check the image directory") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read as an image ({error}); replace or remove the file") from error


def clean_box(box: Sequence[float], size: tuple[int, int]) -> tuple[tuple[float, float, float, float] | None, str]:
    """Checks one xyxy box against its image.

    Args:
        box: four numbers (x1, y1, x2, y2) in pixels.
        size: the image's (height, width).

    Returns:
        (the box clipped to the image, ""), or (None, what is wrong with it). A box may stick out by
        `EDGE_TOLERANCE`, which rounded and one-based annotations do; that is clipped away silently.
    """
    x1, y1, x2, y2 = (float(value) for value in box)
    shown = f"box from ({x1:g}, {y1:g}) to ({x2:g}, {y2:g})"
    if not all(math.isfinite(value) for value in (x1, y1, x2, y2)):
        return None, f"{shown} is not finite"
    if x2 <= x1 or y2 <= y1:
        return None, f"{shown} has no area: {x2 - x1:g} wide, {y2 - y1:g} high"
    height, width = size
    beyond = max(-x1, -y1, x2 - width, y2 - height)
    if beyond > EDGE_TOLERANCE:
        return None, f"{shown} sticks {beyond:g} px out of the {width} x {height} image"
    clipped = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    if np.float32(clipped[2]) <= np.float32(clipped[0]) or np.float32(clipped[3]) <= np.float32(clipped[1]):
        return None, f"{shown} has no area within the {width} x {height} image"
    return clipped, ""


def pack_boxes(boxes: Sequence[Sequence[float]], labels: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Lists of boxes and labels as arrays [G, 4] float32 and [G] int32, also for G = 0."""
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int32).reshape(-1)


def report_faults(faults: Sequence[Fault], *, skip_faulty: bool) -> None:
    """Raises one DataError that lists the faults, unless there are none or they are to be skipped."""
    if not faults or skip_faulty:
        return
    lines = [str(fault) for fault in faults[:_FAULTS_SHOWN]]
    if len(faults) > _FAULTS_SHOWN:
        lines.append(f"... and {len(faults) - _FAULTS_SHOWN} more")
    plural = "annotation" if len(faults) == 1 else "annotations"
    raise DataError(
        f"{len(faults)} faulty {plural}; correct them, or pass skip_faulty=True to leave out exactly these:\n  "
        + "\n  ".join(lines),
        faults,
    )

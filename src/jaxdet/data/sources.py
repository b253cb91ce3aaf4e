"""Data sources: the location of a dataset in a configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from jaxdet.data.dataset import DetectionDataset
from jaxdet.data.faults import DataError
from jaxdet.data.formats.class_folder import ClassificationDataset, read_class_folder
from jaxdet.data.formats.coco import CocoDataset
from jaxdet.data.formats.head_list import HeadListDataset
from jaxdet.data.formats.packed import open_packed
from jaxdet.data.formats.sequence import RandomAccess, SequenceDataset
from jaxdet.data.formats.voc import VocDataset
from jaxdet.data.formats.yolo import YoloDataset
from jaxdet.data.held_out import held_out, image_ids, subset


@runtime_checkable
class DataSource(Protocol):
    """The interface of data sources, which your own classes may implement."""

    def open(self, *, skip_faulty: bool = False) -> DetectionDataset | ClassificationDataset:
        """Opens the dataset and reads its annotations.

        Args:
            skip_faulty: leave out faulty boxes instead of raising.

        Raises:
            jaxdet.data.DataError: the data cannot be used; the message lists the faults with file and line.
        """
        ...


@dataclass(frozen=True)
class CocoFiles:
    """A COCO json file (``annotations``) and the folder of its images (``images``)."""

    annotations: str
    images: str

    def open(self, *, skip_faulty: bool = False) -> DetectionDataset:
        return CocoDataset(self.annotations, self.images, skip_faulty=skip_faulty)


@dataclass(frozen=True)
class VocFolder:
    """A split of a Pascal VOC folder.

    split: a list in ``ImageSets/Main``; None: all annotations.
    class_names: class names in the order of their labels; by default all, sorted.
    one_based: corners are inclusive pixels from 1, as the format defines; False: they are edges from 0 (see
        `jaxdet.data.formats.voc`).
    """

    root: str
    split: str | None = None
    class_names: tuple[str, ...] | None = None
    one_based: bool = True

    def open(self, *, skip_faulty: bool = False) -> DetectionDataset:
        return VocDataset(
            self.root, self.split, class_names=self.class_names, one_based=self.one_based, skip_faulty=skip_faulty
        )


@dataclass(frozen=True)
class YoloFolder:
    """A split, such as ``"train"``, of a YOLO folder; ``root`` is the folder or its ``data.yaml``."""

    root: str
    split: str

    def open(self, *, skip_faulty: bool = False) -> DetectionDataset:
        return YoloDataset(self.root, self.split, skip_faulty=skip_faulty)


@dataclass(frozen=True)
class HeadList:
    """A HeadHunter list.

    root: the folder that its paths are relative to; by default the folder of the list.
    negatives, ones: the meaning of negative flags in training and of positive flags in evaluation (see
        `jaxdet.data.formats.head_list.HeadListDataset`).
    """

    file: str
    root: str | None = None
    negatives: str = "ignored"
    ones: str | None = None

    def open(self, *, skip_faulty: bool = False) -> DetectionDataset:
        return HeadListDataset(self.file, self.root, negatives=self.negatives, ones=self.ones, skip_faulty=skip_faulty)


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples from Python: a Grain data source, or any sequence of mappings.

    sequence: entries have ``image`` ([H, W, 3] uint8 RGB, or a path), ``boxes`` [G, 4] xyxy in pixels and ``labels``
        [G] 1..K, and may have ``image_id`` and ``ignored`` (see `jaxdet.data.formats.sequence.SequenceDataset`).
        It is pickled for worker processes.
    names: class names of labels 1..K.
    sizes: [N, 2] (height, width) of the images; by default read from the images in one pass over the sequence.
    """

    sequence: RandomAccess
    names: tuple[str, ...]
    sizes: Any = None

    def open(self, *, skip_faulty: bool = False) -> DetectionDataset:
        return SequenceDataset(self.sequence, self.names, sizes=self.sizes, skip_faulty=skip_faulty)


@dataclass(frozen=True)
class PackedFolder:
    """A dataset, with boxes or labels, that was packed by ``jaxdet data CONFIG --pack``."""

    root: str

    def open(self, *, skip_faulty: bool = False) -> DetectionDataset | ClassificationDataset:
        del skip_faulty  # faulty boxes are not packed
        return open_packed(self.root)


@dataclass(frozen=True)
class ClassFolder:
    """A folder per class, for classifiers. ``class_names``: in the order of labels; by default all, sorted."""

    root: str
    class_names: tuple[str, ...] | None = None

    def open(self, *, skip_faulty: bool = False) -> ClassificationDataset:
        del skip_faulty  # no boxes
        return read_class_folder(self.root, self.class_names)


@dataclass(frozen=True)
class SplitPart:
    """A part of a source without validation set.

    part: ``"val"``: the images that are held out; ``"train"``: the others.
    fraction: the fraction of images that are held out; seed: selects them (see `jaxdet.data.held_out`).
    """

    source: DataSource = field(metadata={"options": ""})
    part: Literal["train", "val"]
    fraction: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.part not in ("train", "val"):
            raise ValueError(f"part must be 'train' or 'val', not {self.part!r}")
        if not 0 < self.fraction < 1:
            raise ValueError(f"the fraction of images to hold out must be between 0 and 1, not {self.fraction:g}")

    def open(self, *, skip_faulty: bool = False) -> DetectionDataset | ClassificationDataset:
        try:
            whole = self.source.open(skip_faulty=skip_faulty)
        except DataError as error:
            if error.dataset is None or len(error.dataset) < 2:
                raise
            whole = error.dataset  # its faults are raised below, for this part
        chosen = held_out(image_ids(whole), self.fraction, self.seed)
        return subset(whole, chosen if self.part == "val" else ~chosen, skip_faulty=skip_faulty)


def split_source(source: DataSource, fraction: float, *, seed: int = 0) -> tuple[SplitPart, SplitPart]:
    """Splits a source into a training and a validation set. Raises ValueError unless 0 < fraction < 1."""
    return SplitPart(source, "train", fraction, seed), SplitPart(source, "val", fraction, seed)

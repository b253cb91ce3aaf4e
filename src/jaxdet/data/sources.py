"""Where a dataset lies, as a configuration says it; opening one reads the annotations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxdet.data.class_folder import ClassificationDataset, read_class_folder
from jaxdet.data.coco import CocoDataset
from jaxdet.data.dataset import DetectionDataset
from jaxdet.data.head_list import HeadListDataset
from jaxdet.data.packed import open_packed
from jaxdet.data.sequence import RandomAccess, SequenceDataset
from jaxdet.data.voc import VocDataset
from jaxdet.data.yolo import YoloDataset


@runtime_checkable
class DataSource(Protocol):
    """What a configuration needs of a source; those below have it, and a class of your own may."""

    def open(self, *, skip_faulty: bool = False) -> DetectionDataset | ClassificationDataset:
        """The dataset.

        Args:
            skip_faulty: leave out faulty boxes, instead of raising.

        Raises:
            jaxdet.data.DataError: the data cannot be trained on; the message says why, and where.
        """
        ...


@dataclass(frozen=True)
class CocoFiles:
    """A COCO json file and the folder that its file names are relative to."""

    annotations: str
    images: str

    def open(self, *, skip_faulty: bool = False) -> DetectionDataset:
        return CocoDataset(self.annotations, self.images, skip_faulty=skip_faulty)


@dataclass(frozen=True)
class VocFolder:
    """A split of a Pascal VOC folder.

    split: a list in ``ImageSets/Main``; None: all annotations.
    class_names: in the order of their labels, by default all, sorted.
    one_based: corners count pixels from 1 and are inclusive, as the format says; False for files whose corners are
        edges from 0 (see `jaxdet.data.voc`).
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
    """A split, such as ``"train"``, of a YOLO folder, or of the ``data.yaml`` that ``root`` is."""

    root: str
    split: str

    def open(self, *, skip_faulty: bool = False) -> DetectionDataset:
        return YoloDataset(self.root, self.split, skip_faulty=skip_faulty)


@dataclass(frozen=True)
class HeadList:
    """A HeadHunter list, and the folder that its paths are relative to, by default the list's own.

    negatives, ones: what boxes of negative flag are for training, and those of positive flag for evaluation (see
        `jaxdet.data.head_list.HeadListDataset`).
    """

    file: str
    root: str | None = None
    negatives: str = "ignored"
    ones: str | None = None

    def open(self, *, skip_faulty: bool = False) -> DetectionDataset:
        return HeadListDataset(self.file, self.root, negatives=self.negatives, ones=self.ones, skip_faulty=skip_faulty)


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples that a program has already: a Grain data source, or any sequence of mappings.

    sequence: entries have ``image`` ([H, W, 3] uint8 RGB, or a path), ``boxes`` [G, 4] xyxy in pixels and ``labels``
        [G] 1..K, and may have ``image_id`` and ``ignored`` (see `jaxdet.data.sequence.SequenceDataset`). It has to
        pickle if worker processes are to read from it.
    names: of labels 1..K.
    sizes: [N, 2] (height, width) of the images; without them one pass over the sequence takes them from the images.
    """

    sequence: RandomAccess
    names: tuple[str, ...]
    sizes: Any = None

    def open(self, *, skip_faulty: bool = False) -> DetectionDataset:
        return SequenceDataset(self.sequence, self.names, sizes=self.sizes, skip_faulty=skip_faulty)


@dataclass(frozen=True)
class PackedFolder:
    """A data set that ``jaxdet data CONFIG --pack`` wrote, of boxes or of labels."""

    root: str

    def open(self, *, skip_faulty: bool = False) -> DetectionDataset | ClassificationDataset:
        del skip_faulty  # what was faulty has not been packed
        return open_packed(self.root)


@dataclass(frozen=True)
class ClassFolder:
    """A folder for each class, for classifiers; ``class_names`` in the order of labels, by default all, sorted."""

    root: str
    class_names: tuple[str, ...] | None = None

    def open(self, *, skip_faulty: bool = False) -> ClassificationDataset:
        del skip_faulty  # there are no boxes
        return read_class_folder(self.root, self.class_names)

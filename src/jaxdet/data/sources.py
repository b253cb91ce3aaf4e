"""Where a dataset lies, as a configuration says it; opening one reads the annotations."""

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
        edges from 0 (see `jaxdet.data.formats.voc`).
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
    """Examples that a program has already: a Grain data source, or any sequence of mappings.

    sequence: entries have ``image`` ([H, W, 3] uint8 RGB, or a path), ``boxes`` [G, 4] xyxy in pixels and ``labels``
        [G] 1..K, and may have ``image_id`` and ``ignored`` (see `jaxdet.data.formats.sequence.SequenceDataset`).
        It has to pickle if worker processes are to read from it.
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
    """A dataset that ``jaxdet data CONFIG --pack`` wrote, of boxes or of labels."""

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


@dataclass(frozen=True)
class SplitPart:
    """One part of a source that has no validation set.

    part: ``"val"``: the images that are held out; ``"train"``: the others.
    fraction: of the images that are held out; seed: which ones (see `jaxdet.data.held_out`).
    """

    source: DataSource = field(metadata={"options": ""})
    part: Literal["train", "val"]
    fraction: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.part not in ("train", "val"):
            raise ValueError(f"part is 'train' or 'val', not {self.part!r}")
        if not 0 < self.fraction < 1:
            raise ValueError(f"the fraction of images to hold out is between 0 and 1, not {self.fraction:g}")

    def open(self, *, skip_faulty: bool = False) -> DetectionDataset | ClassificationDataset:
        try:
            whole = self.source.open(skip_faulty=skip_faulty)
        except DataError as error:
            if error.dataset is None or len(error.dataset) < 2:
                raise
            whole = error.dataset  # whose faults are raised below, with what there is of this part
        chosen = held_out(image_ids(whole), self.fraction, self.seed)
        return subset(whole, chosen if self.part == "val" else ~chosen, skip_faulty=skip_faulty)


def split_source(source: DataSource, fraction: float, *, seed: int = 0) -> tuple[SplitPart, SplitPart]:
    """A training and a validation set from one source. Raises ValueError unless the fraction is between 0 and 1."""
    return SplitPart(source, "train", fraction, seed), SplitPart(source, "val", fraction, seed)

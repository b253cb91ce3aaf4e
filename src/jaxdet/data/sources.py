"""Where a dataset lies, as a configuration says it; opening one reads the annotations."""

from __future__ import annotations

from dataclasses import dataclass

from jaxdet.data.coco import CocoDataset
from jaxdet.data.dataset import DetectionDataset
from jaxdet.data.voc import VocDataset


@dataclass(frozen=True)
class CocoFiles:
    """A COCO json file and the folder that its file names are relative to."""

    annotations: str
    images: str

    def open(self, *, skip_faulty: bool = False) -> DetectionDataset:
        return CocoDataset(self.annotations, self.images, skip_faulty=skip_faulty)


@dataclass(frozen=True)
class VocFolder:
    """A split of a Pascal VOC folder; ``class_names`` in the order of their labels, by default all, sorted."""

    root: str
    split: str
    class_names: tuple[str, ...] | None = None

    def open(self, *, skip_faulty: bool = False) -> DetectionDataset:
        return VocDataset(self.root, self.split, class_names=self.class_names, skip_faulty=skip_faulty)


DataSource = CocoFiles | VocFolder

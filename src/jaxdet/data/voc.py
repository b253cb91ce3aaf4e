"""Pascal VOC folders: ``Annotations/*.xml``, ``JPEGImages``, ``ImageSets/Main/<split>.txt``.

The VOC development kit counts pixels from 1 and includes both corners; most tools that write the format today
(and torchvision's reader) treat xmin, ymin, xmax, ymax as plain corners. They are taken as they stand.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

from jaxdet.data.dataset import (
    BACKGROUND,
    DataError,
    DetectionDataset,
    Fault,
    Record,
    clean_box,
    pack_boxes,
    read_image_size,
    report_faults,
)

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class VocDataset(DetectionDataset):
    """One split of a Pascal VOC folder. Objects marked difficult or truncated are kept like any other.

    Args:
        root: the folder with ``Annotations``, ``JPEGImages`` and ``ImageSets``.
        split: the name of a list in ``ImageSets/Main``, such as ``"train"``.
        class_names: the classes in the order of their labels 1..K. By default the sorted names that occur anywhere
            in ``Annotations``, not only in this split, so that all splits agree on the labels.
        skip_faulty: leave out objects whose box is degenerate, not finite or out of the image, and count them in
            `skipped`, instead of raising.

    Raises:
        DataError: a file is missing or not in the format, a class is unknown, or, listing every one, there are
            faulty objects and ``skip_faulty`` is false.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        class_names: Sequence[str] | None = None,
        skip_faulty: bool = False,
    ) -> None:
        root = Path(root)
        if class_names is None:
            class_names = collect_class_names(root)
        labels = {name: label for label, name in enumerate(class_names, start=1)}
        if len(labels) != len(class_names):
            raise DataError(f"class_names has a name twice: {', '.join(class_names)}")
        records: list[Record] = []
        faults: list[Fault] = []
        for image_id, stem in enumerate(_read_split(root, split), start=1):
            record, wrong = _read_record(root, stem, image_id, labels)
            records.append(record)
            faults.extend(wrong)
        report_faults(faults, skip_faulty=skip_faulty)
        super().__init__(records, (BACKGROUND, *class_names), (-1, *labels.values()), faults=faults)


def collect_class_names(root: str | Path) -> tuple[str, ...]:
    """The sorted object names that occur in ``root/Annotations``. Raises DataError where there are none."""
    folder = Path(root) / "Annotations"
    names = {
        _text(item, "name", str(path)).strip()
        for path in sorted(folder.glob("*.xml"))
        for item in _parse(path).iter("object")
    }
    if not names:
        raise DataError(f"{folder}: holds no xml file with an object; give the folder that contains 'Annotations'")
    return tuple(sorted(names))


def _read_split(root: Path, split: str) -> list[str]:
    path = root / "ImageSets" / "Main" / f"{split}.txt"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        known = sorted(file.stem for file in path.parent.glob("*.txt"))
        raise DataError(f"{path}: there is no such split; known are: {', '.join(known) or 'none'}") from None
    stems = [line.split()[0] for line in lines if line.strip()]
    if not stems:
        raise DataError(f"{path}: lists no images; write one image name a line")
    return stems


def _parse(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such annotation file; add it or take the image off the split") from None
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: is not XML ({error}); replace the file") from None


def _text(parent: ElementTree.Element, tag: str, where: str) -> str:
    text = parent.findtext(tag)
    if text is None or not text.strip():
        raise DataError(f"{where}: <{parent.tag}> has no <{tag}>; add it")
    return text


def _image_path(root: Path, stem: str, tree: ElementTree.Element) -> str:
    """The split's own name decides; a file name within the xml counts only where that image does not exist."""
    candidates = [f"{stem}.jpg", (tree.findtext("filename") or "").strip(), f"{stem}.png", f"{stem}.jpeg"]
    for name in candidates:
        path = os.path.join(root, "JPEGImages", name)
        if name and os.path.isfile(path):
            return path
    raise DataError(f"{root / 'JPEGImages' / candidates[0]}: the image of annotation {stem}.xml is missing; add it")


def _image_size(tree: ElementTree.Element, path: str) -> tuple[int, int]:
    try:
        height, width = (int(float(tree.findtext(f"size/{side}", ""))) for side in ("height", "width"))
    except ValueError:
        return read_image_size(path)
    return (height, width) if height > 0 and width > 0 else read_image_size(path)


def _read_record(root: Path, stem: str, image_id: int, labels: dict[str, int]) -> tuple[Record, list[Fault]]:
    file = root / "Annotations" / f"{stem}.xml"
    tree = _parse(file)
    path = _image_path(root, stem, tree)
    size = _image_size(tree, path)
    boxes, found, faults = [], [], []
    for number, item in enumerate(tree.iter("object"), start=1):
        where = f"{file}: object {number}"
        name = _text(item, "name", where).strip()
        if name not in labels:
            raise DataError(f"{where} is a {name!r}, which is not among the classes {', '.join(labels)}; add it")
        corners = item.find("bndbox")
        if corners is None:
            raise DataError(f"{where}: has no <bndbox>; add it")
        texts = [_text(corners, tag, where) for tag in _CORNERS]
        try:
            box, problem = clean_box([float(text) for text in texts], size)
        except ValueError:
            box, problem = None, f"box {texts} is not four numbers"
        if box is None:
            faults.append(Fault(str(file), os.path.basename(path), f"object {number} ({name})", problem))
        else:
            boxes.append(box)
            found.append(labels[name])
    return Record(image_id, path, size, *pack_boxes(boxes, found)), faults

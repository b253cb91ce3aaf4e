"""Pascal VOC folders: ``Annotations/*.xml``, ``JPEGImages``, and lists ``ImageSets/Main/<split>.txt``.

The format counts pixels from 1 and includes both corners: an object from pixel 1 to pixel 10 is 10 pixels wide, which
is a box from 0 to 10 in continuous coordinates. So 1 is subtracted from xmin and ymin, but not from xmax and ymax (as
in detectron2), and boxes are the same as for the same data in COCO's or YOLO's format. Many tools write corners as
edges from 0 instead; for such files ``one_based=False`` uses all four as they are.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import Element

from jaxdet.data.boxes import clean_box, pack_objects
from jaxdet.data.dataset import BACKGROUND, DetectionDataset, Record
from jaxdet.data.faults import DataError, Fault, FaultKind, Problem, refuse_faults
from jaxdet.data.formats.coco_fields import SIDE_LIMIT
from jaxdet.data.formats.voc_layout import VocEntry, VocLayout, open_layout
from jaxdet.data.formats.xml_files import NOT_XML, element_lines, error_line, parse_xml
from jaxdet.data.images import read_image_size
from jaxdet.paths import Listing

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class VocDataset(DetectionDataset):
    """One split of a Pascal VOC folder. Objects marked difficult or truncated are kept.

    Letter case does not matter, images may have any format, and ``images`` may replace ``JPEGImages``. An image has the
    name of its annotation; ``<filename>`` is only used if there is none.

    Args:
        root: the folder with ``Annotations``, ``JPEGImages`` and ``ImageSets``.
        split: the name of a list in ``ImageSets/Main``, such as ``"train"``; None: all annotations.
        class_names: the classes in the order of their labels 1..K; by default the sorted names in all annotations, not
            only in this split, so that all splits have the same labels.
        one_based: corners are inclusive pixels from 1, as the format defines; False: they are edges from 0.
        skip_faulty: leave out objects with a box that is degenerate, not finite or outside of the image, and count them
            in `skipped`, instead of raising.

    Raises:
        DataError: no such split; or faults, all listed with their line: missing or malformed images or annotations,
            unknown classes, faulty boxes.
    """

    def __init__(
        self,
        root: str | Path,
        split: str | None,
        *,
        class_names: Sequence[str] | None = None,
        one_based: bool = True,
        skip_faulty: bool = False,
    ) -> None:
        layout = open_layout(root)
        entries = layout.entries(split)
        if class_names is None:
            class_names = collect_class_names(layout)
        labels = {name: label for label, name in enumerate(class_names, start=1)}
        if len(labels) != len(class_names):
            raise DataError(f"class_names has a duplicate: {', '.join(class_names)}")
        reader = _Reader(layout, labels, one_based=one_based)
        records: list[Record] = []
        self._files: list[str] = []
        for image_id, entry in enumerate(entries, start=1):
            record = reader.read(image_id, entry)
            if record is not None:
                records.append(record)
                self._files.append(entry.annotation)
        faults = reader.all_faults()
        if split is None:
            faults += layout.unlisted_faults([record.path for record in records])
        names = (BACKGROUND, *class_names)
        super().__init__(records, names, (-1, *labels.values()), faults=faults, skip_faulty=skip_faulty)

    def places(self, indices: Sequence[int]) -> list[tuple[str, int | None]]:
        found: list[tuple[str, int | None]] = []
        for file in (self._files[index] for index in indices):
            tree = parse_xml(file)
            size = tree.find("size")
            found.append((file, element_lines(file, tree)[tree if size is None else size]))
        return found


def collect_class_names(layout: VocLayout) -> tuple[str, ...]:
    """The sorted object names in all annotations.

    Raises:
        DataError: there are none; lists the files that are not XML, if any.
    """
    names, faults = set(), []
    for path in layout.annotation_files():
        try:
            names |= {item.findtext("name", "").strip() for item in parse_xml(path).iter("object")}
        except NOT_XML as error:
            faults.append(_not_xml(path, error))  # reported with its split if there are names
    names.discard("")
    if not names:
        refuse_faults(faults, skip_faulty=False)
        raise DataError(
            f"{layout.annotations}: no xml file with a named object; give the folder of a Pascal VOC dataset"
        )
    return tuple(sorted(names))


def _not_xml(path: str, error: BaseException, image: str = "") -> Fault:
    text = f"is not XML ({error}); replace the file"
    return Fault(FaultKind.UNREADABLE_ANNOTATION, path, error_line(error), text, image)


class _Reader:
    """Reads images one by one, and collects their faults."""

    def __init__(self, layout: VocLayout, labels: Mapping[str, int], *, one_based: bool) -> None:
        self._layout, self._labels, self._one_based = layout, labels, one_based
        self.faults: list[Fault] = []
        self._below = 0  # number of objects with corners that are invalid as one-based pixels
        self._first_below: Fault | None = None
        self._entry = VocEntry("", "", "", None)
        self._lines: dict[Element, int] = {}  # lines of the entry's xml elements, read when needed

    def read(self, image_id: int, entry: VocEntry) -> Record | None:
        """The record of an image; None if its annotation or its image file is missing or unreadable."""
        self._entry, self._lines = entry, {}
        try:
            tree = parse_xml(entry.annotation)
        except FileNotFoundError:
            text = f"there is no annotation file {entry.annotation}; add it or remove the image from the split"
            self._fault(Problem(FaultKind.MISSING_ANNOTATION, text), entry.file, entry.line)
            return None
        except NOT_XML as error:
            if entry.annotation not in Listing():  # a name that is invalid for files
                text = f"{reprlib.repr(entry.stem)} is not the name of an annotation ({error}); correct it"
                self._fault(Problem(FaultKind.MISSING_ANNOTATION, text), entry.file, entry.line)
            else:
                self.faults.append(_not_xml(entry.annotation, error, entry.stem))
            return None
        path = self._layout.image_of(entry.stem, tree.findtext("filename", "").strip())
        if path is None:
            name = Path(entry.annotation).name
            text = f"{self._layout.images / entry.stem}.jpg: the image of annotation {name} is missing; add it"
            self._fault(Problem(FaultKind.MISSING_IMAGE, text), entry.file, entry.line)
            return None
        try:
            size = image_size(tree) or read_image_size(path)
        except DataError as error:
            self._fault_at(tree, Problem(error.faults[0].kind, str(error)), tree)
            return None
        boxes, found = [], []
        for number, item in enumerate(tree.iter("object"), start=1):
            label = self._label(item)
            annotation = f"object {number}"
            if isinstance(label, Problem):
                self._fault_at(item, label, tree, annotation)
                continue
            box = self._box(item, size, tree, annotation)
            if isinstance(box, Problem):
                self._fault_at(item, box, tree, f"{annotation} ({item.findtext('name', '').strip()})")
            else:
                boxes.append(box)
                found.append(label)
        return Record(image_id=image_id, path=path, size=size, **pack_objects(boxes, found).annotations())

    def all_faults(self) -> list[Fault]:
        """The faults of all images, and a warning if corners seem to count from 0."""
        if self._first_below is None:
            return self.faults
        text = (
            f"{self._below} objects with xmin or ymin below 1, of which this is the first; the format counts pixels "
            "from 1. If these files count from 0, pass one_based=False"
        )
        return [*self.faults, replace(self._first_below, problem=text)]

    def _label(self, item: Element) -> int | Problem:
        name = item.findtext("name", "").strip()
        if not name:
            return Problem(FaultKind.MALFORMED_ENTRY, "has no <name>; add it")
        if name not in self._labels:
            text = f"is a {name!r}, which is not among the classes {', '.join(self._labels)}; add it"
            return Problem(FaultKind.UNKNOWN_CATEGORY, text)
        return self._labels[name]

    def _box(self, item: Element, size: tuple[int, int], tree: Element, annotation: str) -> list[float] | Problem:
        corners = box_corners(item)
        if isinstance(corners, Problem) or not self._one_based:
            return corners if isinstance(corners, Problem) else clean_box(corners, size)
        x1, y1, x2, y2 = corners
        box = clean_box((x1 - 1, y1 - 1, x2, y2), size)
        if isinstance(box, Problem):
            return Problem(box.kind, f"{box.text} (as edges from 0: xmin and ymin less 1)")
        if x1 < 1 or y1 < 1:
            self._below += 1
            self._first_below = self._first_below or self._make_fault(
                item, Problem(FaultKind.ZERO_CORNER, ""), tree, annotation
            )
        if x1 == x2 or y1 == y2:
            text = f"is one pixel {'wide' if x1 == x2 else 'high'} (equal corners); correct it if it is not an object"
            self._fault_at(item, Problem(FaultKind.ONE_PIXEL_BOX, text), tree, annotation)
        return box

    def _fault(self, problem: Problem, file: str, line: int | None, annotation: str = "") -> None:
        self.faults.append(Fault(problem.kind, file, line, problem.text, self._entry.stem, annotation))

    def _fault_at(self, element: Element, problem: Problem, tree: Element, annotation: str = "") -> None:
        self.faults.append(self._make_fault(element, problem, tree, annotation))

    def _make_fault(self, element: Element, problem: Problem, tree: Element, annotation: str) -> Fault:
        file = self._entry.annotation
        self._lines = self._lines or element_lines(file, tree)
        return Fault(problem.kind, file, self._lines[element], problem.text, self._entry.stem, annotation)


def image_size(tree: Element) -> tuple[int, int] | None:
    """The (height, width) of an annotation, if it has one."""
    try:
        height, width = (int(float(tree.findtext(f"size/{side}", ""))) for side in ("height", "width"))
    except (ValueError, OverflowError):
        return None
    return (height, width) if 0 < height <= SIDE_LIMIT and 0 < width <= SIDE_LIMIT else None


def box_corners(item: Element) -> list[float] | Problem:
    """The corners xyxy of an ``<object>``, unchanged, or their problem."""
    texts = [item.findtext(f"bndbox/{tag}", "").strip() for tag in _CORNERS]
    try:
        return [float(text) for text in texts]
    except ValueError:
        missing = [tag for tag, text in zip(_CORNERS, texts, strict=True) if not text]
        problem = f"<bndbox> has no <{missing[0]}>" if missing else f"box {texts} is not four numbers"
        return Problem(FaultKind.MALFORMED_BOX, problem)

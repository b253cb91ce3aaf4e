"""Pascal VOC folders: ``Annotations/*.xml``, ``JPEGImages``, ``ImageSets/Main/<split>.txt``.

The VOC development kit counts pixels from 1 and includes both corners; most tools that write the format today
(and torchvision's reader) treat xmin, ymin, xmax, ymax as plain corners. They are taken as they stand.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from jaxdet.data.boxes import clean_box, pack_boxes
from jaxdet.data.dataset import BACKGROUND, DetectionDataset, Record
from jaxdet.data.faults import DataError, Fault, FaultKind, Problem
from jaxdet.data.pictures import read_image_size
from jaxdet.data.xml_lines import element_lines
from jaxdet.paths import Listing, PathLike, to_path

# What parsing raises; the last two where it does not know the encoding.
NOT_XML = (OSError, ElementTree.ParseError, ValueError, LookupError)
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
        DataError: there is no such split; or, listing every one with its line, pictures or annotations are missing or
            not in the format, a class is unknown, or boxes are faulty.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        class_names: Sequence[str] | None = None,
        skip_faulty: bool = False,
    ) -> None:
        root = to_path(root)
        if class_names is None:
            class_names = collect_class_names(root)
        labels = {name: label for label, name in enumerate(class_names, start=1)}
        if len(labels) != len(class_names):
            raise DataError(f"class_names has a name twice: {', '.join(class_names)}")
        records: list[Record] = []
        faults: list[Fault] = []
        self._files: list[str] = []
        files = Listing()
        for image_id, (line, stem) in enumerate(_read_split(root, split), start=1):
            reader = _Reader(root, stem, _split_file(root, split), line, files)
            record = reader.read(image_id, labels)
            faults += reader.faults
            if record is not None:
                records.append(record)
                self._files.append(str(reader.file))
        names = (BACKGROUND, *class_names)
        super().__init__(records, names, (-1, *labels.values()), faults=faults, skip_faulty=skip_faulty)

    def places(self, indices: Sequence[int]) -> list[tuple[str, int | None]]:
        found: list[tuple[str, int | None]] = []
        for file in (self._files[index] for index in indices):
            tree = _parse(file)
            size = tree.find("size")
            found.append((file, element_lines(file, tree)[tree if size is None else size]))
        return found


def collect_class_names(root: str | Path) -> tuple[str, ...]:
    """The sorted object names that occur in ``root/Annotations``. Raises DataError where there are none."""
    folder = to_path(root) / "Annotations"
    names = set()
    for path in sorted(folder.glob("*.xml")):
        try:
            tree = _parse(path)
        except NOT_XML:
            continue  # told when its split is read
        names |= {item.findtext("name", "").strip() for item in tree.iter("object")}
    names.discard("")
    if not names:
        raise DataError(f"{folder}: holds no xml file with an object; give the folder that contains 'Annotations'")
    return tuple(sorted(names))


def _split_file(root: Path, split: str) -> Path:
    return root / "ImageSets" / "Main" / f"{split}.txt"


def _read_split(root: Path, split: str) -> list[tuple[int, str]]:
    """(line number, image name) of every image of a split."""
    path = _split_file(root, split)
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except FileNotFoundError:
        known = sorted(file.stem for file in path.parent.glob("*.txt"))
        raise DataError(f"{path}: there is no such split; known are: {', '.join(known) or 'none'}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); write one image name a line") from None
    stems = [(number, line.split()[0]) for number, line in enumerate(lines, start=1) if line.strip()]
    if not stems:
        raise DataError(f"{path}: lists no images; write one image name a line")
    return stems


class _Reader:
    """Reads one image of a split; what is wrong with it gathers in ``faults``."""

    def __init__(self, root: Path, stem: str, split_file: Path, split_line: int, files: Listing) -> None:
        self.root, self.stem, self._files = root, stem, files
        self.file = root / "Annotations" / f"{stem}.xml"
        self._listed = (split_file, split_line)
        self.faults: list[Fault] = []
        self._lines: dict[Element, int] = {}  # once they are needed

    def read(self, image_id: int, labels: Mapping[str, int]) -> Record | None:
        """What the annotation says; None where there is none, or no picture."""
        try:
            tree = _parse(self.file)
        except FileNotFoundError:
            text = f"there is no annotation file {self.file}; add it or take the image off the split"
            self._fault(Problem(FaultKind.MISSING_ANNOTATION, text), *self._listed)
            return None
        except NOT_XML as error:
            problem = Problem(FaultKind.UNREADABLE_ANNOTATION, f"is not XML ({error}); replace the file")
            self._fault(problem, self.file, error.position[0] if isinstance(error, ElementTree.ParseError) else None)
            return None
        path = self._image_path(tree)
        if path is None:
            missing = self.root / "JPEGImages" / f"{self.stem}.jpg"
            text = f"{missing}: the image of annotation {self.stem}.xml is missing; add it"
            self._fault(Problem(FaultKind.MISSING_PICTURE, text), *self._listed)
            return None
        try:
            size = image_size(tree) or read_image_size(path)
        except DataError as error:
            self._fault_at(tree, Problem(error.faults[0].kind, str(error)), tree)
            return None
        boxes, found = [], []
        for number, item in enumerate(tree.iter("object"), start=1):
            name = item.findtext("name", "").strip()
            box = _read_box(item, size)
            if not name:
                problem = Problem(FaultKind.MALFORMED_ENTRY, "has no <name>; add it")
                self._fault_at(item, problem, tree, f"object {number}")
            elif name not in labels:
                text = f"is a {name!r}, which is not among the classes {', '.join(labels)}; add it"
                problem = Problem(FaultKind.UNKNOWN_CATEGORY, text)
                self._fault_at(item, problem, tree, f"object {number}")
            elif isinstance(box, Problem):
                self._fault_at(item, box, tree, f"object {number} ({name})")
            else:
                boxes.append(box)
                found.append(labels[name])
        return Record(image_id, path, size, *pack_boxes(boxes, found))

    def _fault(self, problem: Problem, file: Path, line: int | None, annotation: str = "") -> None:
        self.faults.append(Fault(problem.kind, str(file), line, problem.text, self.stem, annotation))

    def _fault_at(self, element: Element, problem: Problem, tree: Element, annotation: str = "") -> None:
        self._lines = self._lines or element_lines(self.file, tree)
        self._fault(problem, self.file, self._lines[element], annotation)

    def _image_path(self, tree: Element) -> str | None:
        """The split's own name decides; a file name within the xml counts only where that image does not exist."""
        for name in (
            f"{self.stem}.jpg",
            tree.findtext("filename", "").strip(),
            f"{self.stem}.png",
            f"{self.stem}.jpeg",
        ):
            path = os.path.join(os.fspath(self.root), "JPEGImages", name)
            if name and path in self._files:
                return path
        return None


def _parse(file: PathLike) -> Element:
    return ElementTree.fromstring(to_path(file).read_bytes())


def image_size(tree: Element) -> tuple[int, int] | None:
    """The (height, width) that an annotation gives, if it does."""
    try:
        height, width = (int(float(tree.findtext(f"size/{side}", ""))) for side in ("height", "width"))
    except (ValueError, OverflowError):
        return None
    return (height, width) if height > 0 and width > 0 else None


def _read_box(item: Element, size: tuple[int, int]) -> list[float] | Problem:
    corners = box_corners(item)
    return corners if isinstance(corners, Problem) else clean_box(corners, size)


def box_corners(item: Element) -> list[float] | Problem:
    """The corners xyxy that an ``<object>`` gives, as they stand there, or what is wrong with them."""
    texts = [item.findtext(f"bndbox/{tag}", "").strip() for tag in _CORNERS]
    try:
        return [float(text) for text in texts]
    except ValueError:
        lacking = [tag for tag, text in zip(_CORNERS, texts, strict=True) if not text]
        problem = f"<bndbox> has no <{lacking[0]}>" if lacking else f"box {texts} is not four numbers"
        return Problem(FaultKind.MALFORMED_BOX, problem)

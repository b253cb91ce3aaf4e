"""SCUT-HEAD (Peng et al. 2018): Pascal VOC folders, of which the data set has two, Part A and Part B."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from jaxdet.data.faults import DataError, FaultKind, Problem
from jaxdet.data.lists.conversion import Conversion, Place
from jaxdet.data.voc import NOT_XML, box_corners, image_size
from jaxdet.data.xml_lines import element_lines

NAMES = ("head", "person")  # what the data set calls a head
_LIKENESS = 0.6  # difflib's, from which a name is one of these misspelt
_SUFFIXES = (".jpg", ".JPG", ".jpeg", ".png")


def convert_scut_head(root: str | Path, split: str | None = None, *, base: str | Path | None = None) -> Conversion:
    """Heads of a Pascal VOC folder, or of all such folders in one.

    Every head has flag 0 (the original's script writes 1, and its evaluation then ignores them all). A misspelt
    ``head`` or ``person`` is one, and told; an object of any other name has flag -1, and is told. An annotation without
    an object is a picture without heads. Sizes are the pictures' own, not those of the xml files.

    Args:
        root: holds ``Annotations`` and ``JPEGImages``, or folders that do.
        split: a list in ``ImageSets/Main``; None: every annotation.
        base: the folder that paths in the list are relative to, by default ``root``.

    Raises:
        DataError: there are no such folders, or none of them has such a split.
    """
    root = Path(root)
    parts = [part for part in (root, *sorted(root.glob("*"))) if (part / "Annotations").is_dir()]
    if not parts:
        raise DataError(f"{root}: neither it nor a folder in it has 'Annotations'; give the folder of SCUT-HEAD")
    listed = [entry for part in parts for entry in _annotations(part, split)]
    if not listed:
        what = "Annotations/*.xml" if split is None else f"ImageSets/Main/{split}.txt with a name"
        raise DataError(f"{root}: there is no {what} in {', '.join(map(str, parts))}; check folder and split")
    conversion = Conversion(root if base is None else base)
    for file, place in listed:
        _convert(file, place, conversion)
    return conversion


def _annotations(part: Path, split: str | None) -> list[tuple[Path, Place]]:
    """The xml files of a part, with the place that names each."""
    folder = part / "Annotations"
    if split is None:
        return [(file, (file, None)) for file in sorted(folder.glob("*.xml"))]
    names = part / "ImageSets" / "Main" / f"{split}.txt"
    if not names.is_file():
        return []
    lines = enumerate(names.read_text(encoding="utf-8-sig").splitlines(), start=1)
    return [(folder / f"{line.split()[0]}.xml", (names, number)) for number, line in lines if line.strip()]


def _convert(file: Path, place: Place, conversion: Conversion) -> None:
    try:
        tree = ElementTree.parse(file).getroot()
    except FileNotFoundError:
        text = f"there is no annotation file {file}; its picture is left out"
        conversion.tell(Problem(FaultKind.MISSING_ANNOTATION, text), place)
        return
    except NOT_XML as error:
        line = error.position[0] if isinstance(error, ElementTree.ParseError) else None
        text = f"is not XML ({error}); its picture is left out"
        conversion.tell(Problem(FaultKind.UNREADABLE_ANNOTATION, text), (file, line))
        return
    if not conversion.add_picture(_picture(file), (file, None), image_size(tree)):
        return
    items = tree.findall("object")
    if not items:
        problem = Problem(FaultKind.EMPTY_ANNOTATION, "has no object; it is a picture without heads")
        conversion.tell(problem, (file, None))
        return
    lines = element_lines(file, tree)
    for number, item in enumerate(items, start=1):
        flag, remark = _flag(item)
        annotation = f"object {number}"
        if remark is not None:
            conversion.tell(remark, (file, lines[item]), annotation=annotation)
        conversion.add_box(box_corners(item), flag, (file, lines[item]), annotation)


def _flag(item: Element) -> tuple[int, Problem | None]:
    """The flag of an object by its name, and what is to be told about that."""
    name = item.findtext("name", "").strip()
    if name in NAMES:
        return 0, None
    known = difflib.get_close_matches(name.lower(), NAMES, n=1, cutoff=_LIKENESS)
    if known:
        return 0, Problem(FaultKind.MISSPELT_CLASS, f"is a {name!r}, which is read as {known[0]!r}")
    text = f"is a {name!r}, no {' or '.join(NAMES)}; it has flag -1, not trained on and ignored in evaluation"
    return -1, Problem(FaultKind.MISSPELT_CLASS, text)


def _picture(file: Path) -> str:
    """The picture of an annotation; the .jpg where there is none."""
    paths = [file.parents[1] / "JPEGImages" / f"{file.stem}{suffix}" for suffix in _SUFFIXES]
    return os.fspath(next((path for path in paths if path.is_file()), paths[0]))

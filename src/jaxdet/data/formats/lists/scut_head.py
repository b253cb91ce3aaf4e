"""SCUT-HEAD (Peng et al. 2018): two Pascal VOC folders, Part A and Part B."""

from __future__ import annotations

import difflib
from pathlib import Path
from xml.etree.ElementTree import Element

from jaxdet.data.faults import DataError, FaultKind, Problem
from jaxdet.data.formats.lists.conversion import Conversion
from jaxdet.data.formats.voc import box_corners, image_size
from jaxdet.data.formats.voc_layout import VocEntry, VocLayout, find_layout
from jaxdet.data.formats.xml_files import NOT_XML, element_lines, error_line, parse_xml
from jaxdet.data.image_files import visible

NAMES = ("head", "person")  # the dataset's names of heads
_LIKENESS = 0.6  # difflib's cutoff for a misspelt name


def convert_scut_head(root: str | Path, split: str | None = None, *, base: str | Path | None = None) -> Conversion:
    """The heads of a Pascal VOC folder, or of all such folders in a folder.

    All heads have flag 0 (the original's script writes 1, and its evaluation then ignores them all). Misspelt ``head``
    and ``person`` are heads; objects with other names have flag -1; both are reported. Annotations without objects are
    images without heads. Sizes are read from the images, not from the xml files. As in the original's script, corners
    are used unchanged; `jaxdet.data.VocFolder` reads such files as one-based.

    Args:
        root: the folder of ``Annotations`` and ``JPEGImages``, or of several such folders.
        split: a list in ``ImageSets/Main``; None: all annotations.
        base: the folder that paths in the list are relative to; by default ``root``.

    Raises:
        DataError: there are no such folders, or none of them has the split.
    """
    root = Path(root)
    found = [(part, find_layout(part)) for part in (root, *visible(root))]
    parts = [layout for part, layout in found if layout is not None and layout.annotations != part]
    if not parts:
        raise DataError(f"{root}: neither it nor a folder in it has 'Annotations'; give the folder of SCUT-HEAD")
    listed = [part for part in parts if (part.annotation_files() if split is None else part.has_list(split))]
    if not listed:
        what = "Annotations/*.xml" if split is None else f"ImageSets/Main/{split}.txt"
        folders = ", ".join(str(part.root) for part in parts)
        raise DataError(f"{root}: no {what} in {folders}; check folder and split")
    conversion = Conversion(root if base is None else base)
    for part in listed:
        for entry in part.entries(split):
            _convert(entry, part, conversion)
    return conversion


def _convert(entry: VocEntry, layout: VocLayout, conversion: Conversion) -> None:
    file = entry.annotation
    try:
        tree = parse_xml(file)
    except FileNotFoundError:
        text = f"no annotation file {file}; its image is left out"
        conversion.report_fault(Problem(FaultKind.MISSING_ANNOTATION, text), (entry.file, entry.line))
        return
    except NOT_XML as error:
        text = f"is not XML ({error}); its image is left out"
        conversion.report_fault(Problem(FaultKind.UNREADABLE_ANNOTATION, text), (file, error_line(error)))
        return
    image = layout.image_of(entry.stem, tree.findtext("filename", "").strip())
    path = layout.images / f"{entry.stem}.jpg" if image is None else image
    if not conversion.add_image(path, (file, None), image_size(tree)):
        return
    items = tree.findall("object")
    if not items:
        problem = Problem(FaultKind.EMPTY_ANNOTATION, "has no object; it is an image without heads")
        conversion.report_fault(problem, (file, None))
        return
    lines = element_lines(file, tree)
    for number, item in enumerate(items, start=1):
        flag, warning = _flag(item)
        annotation = f"object {number}"
        if warning is not None:
            conversion.report_fault(warning, (file, lines[item]), annotation=annotation)
        conversion.add_box(box_corners(item), flag, (file, lines[item]), annotation)


def _flag(item: Element) -> tuple[int, Problem | None]:
    """The flag of an object by its name, and a warning if the name is unusual."""
    name = item.findtext("name", "").strip()
    if name in NAMES:
        return 0, None
    known = difflib.get_close_matches(name.lower(), NAMES, n=1, cutoff=_LIKENESS)
    if known:
        return 0, Problem(FaultKind.MISSPELT_CLASS, f"is a {name!r}, which is read as {known[0]!r}")
    text = f"is a {name!r}, not {' or '.join(NAMES)}; it has flag -1, not trained on and ignored in evaluation"
    return -1, Problem(FaultKind.MISSPELT_CLASS, text)

"""CrowdHuman (Shao et al. 2018): an ``odgt`` file with a JSON object per line, and a head box for each person."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxdet.data.boxes import from_xywh
from jaxdet.data.faults import DataError, FaultKind, Problem
from jaxdet.data.formats.coco_fields import is_flag
from jaxdet.data.formats.lists.conversion import Conversion, Place
from jaxdet.paths import parse_json, read_lines


def convert_crowd_human(file: str | Path, images: str | Path, *, base: str | Path | None = None) -> Conversion:
    """The heads (``hbox``) of an ``odgt`` file.

    These have flag -1: heads to ignore by ``head_attr`` or ``extra``, heads without ``head_attr``, and the whole
    ``fbox`` of each ``mask`` (crowds and person-like objects without annotated heads). The original leaves out the last
    two, so that they are background.

    Args:
        file: the annotations; images: the folder of the images, ``<ID>.jpg``.
        base: the folder that paths in the list are relative to; by default ``images``.

    Raises:
        DataError: the file cannot be read, or is empty.
    """
    conversion = Conversion(images if base is None else base)
    seen: dict[str, int] = {}
    for number, line in _lines(file):
        place = (file, number)
        entry = _parse(line)
        if isinstance(entry, Problem):
            conversion.report_fault(entry, place)
            continue
        name = str(entry["ID"])
        first = seen.setdefault(name, number)
        if first != number:
            text = f"{name} is also on line {first}; this line is left out"
            conversion.report_fault(Problem(FaultKind.DUPLICATE_IMAGE, text), place)
        elif conversion.add_image(Path(images) / f"{name}.jpg", place):
            for index, person in enumerate(entry["gtboxes"]):
                _add(person, f"gtboxes[{index}]", place, conversion)
    return conversion


def _lines(file: str | Path) -> list[tuple[int, str]]:
    """(number from 1, text) of the non-empty lines."""
    try:
        lines = read_lines(file)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read ({error}); give CrowdHuman's annotation_train.odgt") from None
    found = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not found:
        raise DataError(f"{file}: empty; expected a JSON object per line")
    return found


def _parse(line: str) -> dict[str, Any] | Problem:
    try:
        entry = parse_json(line)
    except ValueError as error:
        return Problem(FaultKind.UNREADABLE_ANNOTATION, f"is not JSON ({error}); its image is left out")
    if not isinstance(entry, dict) or not isinstance(entry.get("gtboxes"), list):
        return Problem(FaultKind.MALFORMED_ENTRY, "has no list 'gtboxes'; its image is left out")
    name = entry.get("ID")
    if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
        text = f"has 'ID' = {reprlib.repr(name)}; it must be a string or an integer; its image is left out"
        return Problem(FaultKind.MALFORMED_ENTRY, text)
    return entry


def _add(person: Any, annotation: str, place: Place, conversion: Conversion) -> None:
    if not isinstance(person, Mapping):
        problem = Problem(FaultKind.MALFORMED_BOX, f"{reprlib.repr(person)} is not a JSON object")
        conversion.add_box(problem, 0, place, annotation)
    elif person.get("tag") == "mask":
        key = "fbox" if "fbox" in person else "hbox"
        conversion.add_box(from_xywh(person.get(key), key), -1, place, annotation)
    else:
        found = _ignored(person)
        box = found if isinstance(found, Problem) else from_xywh(person.get("hbox"), "hbox")
        conversion.add_box(box, -1 if found else 0, place, annotation)


def _ignored(person: Mapping[str, Any]) -> bool | Problem:
    """Whether a head is ignored. Null is treated as missing."""
    if not person.get("head_attr"):
        return True
    for key in ("head_attr", "extra"):
        attributes = person.get(key) or {}
        flag = attributes.get("ignore") if isinstance(attributes, Mapping) else None
        if not isinstance(attributes, Mapping) or (flag is not None and not is_flag(flag)):
            text = f"{key} {reprlib.repr(attributes)} does not have 'ignore' = 0 or 1"
            return Problem(FaultKind.MALFORMED_BOX, text)
        if flag:
            return True
    return False

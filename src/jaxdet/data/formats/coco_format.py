"""Reading COCO json files and checking their structure."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxdet.data.faults import DataError, Fault, FaultKind, Problem, refuse_faults
from jaxdet.data.formats.coco_fields import finite_box, is_crowd, optional_misfits
from jaxdet.data.formats.json_lines import entry_lines
from jaxdet.paths import PathLike, parse_json, to_path

_REQUIRED: dict[str, dict[str, tuple[type, ...]]] = {
    "images": {"id": (int,), "file_name": (str,)},
    "annotations": {"image_id": (int,), "category_id": (int,), "bbox": (list,)},
    "categories": {"id": (int,), "name": (str, int)},
}
_KIND_NAMES = {(int,): "an integer", (str,): "a string", (list,): "a list", (str, int): "a string or an integer"}
_ID_LIMIT = 2**63  # numpy's limit, with which pycocotools sorts ids
_DUPLICATES = {
    "images": FaultKind.DUPLICATE_IMAGE,
    "annotations": FaultKind.DUPLICATE_ANNOTATION,
    "categories": FaultKind.DUPLICATE_CATEGORY,
}


class EntryProblem(NamedTuple):
    """A problem of an entry of a COCO file, without its line."""

    section: str  # "images", "annotations" or "categories"
    number: int  # the entry's position there, from 0
    problem: Problem


def load_coco_json(path: PathLike) -> dict[str, Any]:
    """Reads a COCO file as a dict with the three lists of the format, whose entries are not checked.

    Raises:
        DataError: no such file, not JSON, or a list is missing.
    """
    try:
        content = parse_json(to_path(path).read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: no such annotation file; check the path") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); give a COCO annotation file") from None
    check_sections(content, str(path))
    return content


def check_sections(content: Any, source: str) -> None:
    """Raises DataError unless ``content``, which is from ``source``, has the three lists of the format."""
    if not isinstance(content, Mapping):
        raise DataError(f"{source}: contains a {type(content).__name__}, not an object; give a COCO annotation file")
    for section in _REQUIRED:
        if not isinstance(content.get(section), list):
            raise DataError(
                f"{source}: no list {section!r}; a COCO annotation file has 'images', 'annotations', 'categories'"
            )


def read_coco_json(path: PathLike) -> dict[str, Any]:
    """Reads a COCO ground-truth file as a dict and checks its entries, except for their boxes.

    Raises:
        DataError: no such file, not JSON, or a missing list; or `entry_problems`, all listed with their line.
    """
    content = load_coco_json(path)
    refuse_faults(locate(path, content, entry_problems(content)), skip_faulty=False)
    return content


def check_coco(content: Any, source: str) -> None:
    """Checks that ``content``, which is from ``source``, is COCO ground truth. Raises DataError as `read_coco_json`."""
    check_sections(content, source)
    refuse_faults(_faults(source, content, entry_problems(content), {}), skip_faulty=False)


def check_boxes(content: Mapping[str, Any], source: str) -> None:
    """Checks the boxes of ``content``, which is from ``source``, for evaluation.

    Raises:
        DataError: a box is not four finite numbers, or has a negative size and is not a crowd.
    """
    for entry in content["annotations"]:
        box = entry["bbox"]
        if not finite_box(box) or (min(box[2:]) < 0 and not is_crowd(entry)):
            raise DataError(
                f"{source}: annotation {entry.get('id', '')} of image {entry['image_id']} has bbox "
                f"{reprlib.repr(box)}; it must be four finite numbers, the width and height not negative"
            )


def entry_problems(content: Mapping[str, Any]) -> list[EntryProblem]:
    """The problems of all entries: missing keys, wrong types or ranges, duplicate ids, and unknown references.

    Optional fields (`jaxdet.data.formats.coco_fields`) may be missing or null.
    """
    found = []
    images, categories, annotations = (_objects(content[name]) for name in ("images", "categories", "annotations"))
    for section, entries in (("images", images), ("categories", categories), ("annotations", annotations)):
        found += _misfits(section, entries)
        wrong = optional_misfits(section, entries)
        found += [EntryProblem(section, number, Problem(FaultKind.MALFORMED_ENTRY, text)) for number, text in wrong]
        found += _repeated(section, entries, "id", _DUPLICATES[section], "give each its own")
    found += _repeated("categories", categories, "name", FaultKind.SHARED_NAME, "only their ids differ")
    # Ids of entries with other faults are known, too, so that each mistake is reported once.
    for key, kind, section, others in (
        ("image_id", FaultKind.UNKNOWN_IMAGE, "images", images),
        ("category_id", FaultKind.UNKNOWN_CATEGORY, "categories", categories),
    ):
        known = {entry["id"] for entry in others if type(entry.get("id")) is int}
        for number, value in enumerate([entry.get(key) for entry in annotations]):
            if type(value) is int and value not in known:
                text = f"has {key} {value}, which is not in {section!r}; add it there or remove the annotation"
                found.append(EntryProblem("annotations", number, Problem(kind, text)))
    return found


def locate(path: PathLike, content: Mapping[str, Any], problems: Sequence[EntryProblem]) -> list[Fault]:
    """Problems as faults with their lines in the file, sorted by line. The file is only read if there are problems."""
    if not problems:
        return []
    wanted: dict[str, set[int]] = {section: set() for section in _REQUIRED}
    for found in problems:
        wanted[found.section].add(found.number)
    faults = _faults(str(path), content, problems, entry_lines(path, wanted))
    return sorted(faults, key=lambda fault: fault.line or 0)


def _faults(
    source: str, content: Mapping[str, Any], problems: Sequence[EntryProblem], lines: Mapping[tuple[str, int], int]
) -> list[Fault]:
    """Problems as faults with their image and annotation."""
    faults = []
    entries = _objects(content["images"]) if problems else ()
    images = {image["id"]: image for image in entries if type(image.get("id")) is int}
    for section, number, (kind, text) in problems:
        entry = _objects([content[section][number]])[0]
        name = str(entry.get("id", f"none, entry {number}"))
        image = annotation = ""
        if section == "categories":
            text = f"category {name} {text}"
        elif section == "images":
            image = _image_name(entry, name)
        else:
            annotation, image_id = name, entry.get("image_id")
            image = _image_name(images.get(image_id, {}) if type(image_id) is int else {}, str(image_id))
        faults.append(Fault(kind, source, lines.get((section, number)), text, image, annotation))
    return faults


def _image_name(entry: Mapping[str, Any], name: str) -> str:
    file_name = entry.get("file_name")
    return f"{os.path.basename(file_name)} (id {name})" if isinstance(file_name, str) else name


def _objects(entries: Sequence[Any]) -> Sequence[Any]:
    """The entries, with an empty object in place of values that are not objects."""
    if all(type(entry) is dict for entry in entries):
        return entries
    return [entry if isinstance(entry, Mapping) else {} for entry in entries]


def _misfits(section: str, entries: Sequence[Mapping[str, Any]]) -> list[EntryProblem]:
    """The entries with a missing required key or a value of the wrong type there; each is reported once."""
    found: dict[int, str] = {}
    for key, kinds in _REQUIRED[section].items():  # column by column for speed: files have a million entries
        for number in [number for number, entry in enumerate(entries) if type(entry.get(key)) not in kinds]:
            value = entries[number].get(key)
            if key not in entries[number]:
                found.setdefault(number, f"has no {key!r}; add it")
            elif isinstance(value, bool) or not isinstance(value, kinds):
                found.setdefault(number, f"has {key!r} = {reprlib.repr(value)}; it must be {_KIND_NAMES[kinds]}")
    if "id" in _REQUIRED[section]:
        for number, value in enumerate([entry.get("id") for entry in entries]):
            if type(value) is int and not -_ID_LIMIT <= value < _ID_LIMIT:
                found.setdefault(number, f"has 'id' = {reprlib.repr(value)}; it must fit into 64 bits")
    return [EntryProblem(section, number, Problem(FaultKind.MALFORMED_ENTRY, text)) for number, text in found.items()]


def _repeated(
    section: str, entries: Sequence[Mapping[str, Any]], key: str, kind: FaultKind, advice: str
) -> list[EntryProblem]:
    """The entries that have a value of an earlier entry in their section."""
    values = [entry.get(key) for entry in entries]
    values = [value if isinstance(value, (int, str)) else None for value in values]
    if key == "name":
        values = [None if value is None else str(value) for value in values]
    if len(set(values)) == len(values):
        return []
    first: dict[Any, int] = {}
    found = []
    for number, value in enumerate(values):
        if value is not None and first.setdefault(value, number) != number:
            text = f"has {key} {value!r}, as entry {first[value]} of {section!r} has; {advice}"
            found.append(EntryProblem(section, number, Problem(kind, text)))
    return found

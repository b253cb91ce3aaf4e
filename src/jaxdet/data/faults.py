"""Faults of datasets, with their kind, file and line, and the error that reports them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

_FAULTS_SHOWN = 50  # in an error message


class FaultKind(StrEnum):
    """The kinds of faults."""

    # Errors.
    MISSING_IMAGE = "missing-image"
    UNREADABLE_IMAGE = "unreadable-image"
    IMAGE_SIZE = "image-size"
    MISSING_ANNOTATION = "missing-annotation"
    UNREADABLE_ANNOTATION = "unreadable-annotation"
    MALFORMED_ENTRY = "malformed-entry"
    UNKNOWN_CATEGORY = "unknown-category"
    UNKNOWN_IMAGE = "unknown-image"
    DUPLICATE_IMAGE = "duplicate-image"
    DUPLICATE_CATEGORY = "duplicate-category"
    UNUSABLE_SET = "unusable-set"
    # Errors in single boxes, which ``skip_faulty=True`` leaves out.
    DEGENERATE_BOX = "degenerate-box"
    OUTSIDE_BOX = "outside-box"
    NON_FINITE_BOX = "non-finite-box"
    MALFORMED_BOX = "malformed-box"
    # Warnings.
    DUPLICATE_ANNOTATION = "duplicate-annotation"
    SHARED_NAME = "shared-name"
    SHARED_IMAGE = "shared-image"
    EMPTY_REGION = "empty-region"
    ONE_PIXEL_BOX = "one-pixel-box"
    CLIPPED_BOXES = "clipped-boxes"
    FLAG_ONE = "flag-one"
    EMPTY_ANNOTATION = "empty-annotation"
    MISSPELT_CLASS = "misspelt-class"
    EMPTY_CLASS = "empty-class"
    COLOUR_MODE = "colour-mode"
    EXIF_ROTATION = "exif-rotation"
    # Warnings about a dataset as a whole, which training also prints at its start.
    NO_BOXES = "no-boxes"
    SKIPPED_FILES = "skipped-files"
    UNANNOTATED = "unannotated"
    ZERO_CORNER = "zero-corner"

    @property
    def of_box(self) -> bool:
        """Whether the fault concerns a single box, which can be left out."""
        return self in _OF_BOXES

    @property
    def of_set(self) -> bool:
        """Whether the fault concerns a dataset as a whole."""
        return self in _OF_SETS

    @property
    def severity(self) -> str:
        """``"error"``: the dataset cannot be used for training; ``"warning"``: it can."""
        return "warning" if self in _WARNINGS else "error"


_OF_BOXES = frozenset(
    {FaultKind.DEGENERATE_BOX, FaultKind.OUTSIDE_BOX, FaultKind.NON_FINITE_BOX, FaultKind.MALFORMED_BOX}
)
_OF_SETS = frozenset({FaultKind.NO_BOXES, FaultKind.SKIPPED_FILES, FaultKind.UNANNOTATED, FaultKind.ZERO_CORNER})
_WARNINGS = _OF_SETS | frozenset(
    {
        FaultKind.DUPLICATE_ANNOTATION, FaultKind.SHARED_NAME, FaultKind.SHARED_IMAGE, FaultKind.EMPTY_REGION,
        FaultKind.ONE_PIXEL_BOX, FaultKind.CLIPPED_BOXES, FaultKind.FLAG_ONE, FaultKind.EMPTY_ANNOTATION,
        FaultKind.MISSPELT_CLASS, FaultKind.EMPTY_CLASS, FaultKind.COLOUR_MODE, FaultKind.EXIF_ROTATION,
    }
)  # fmt: skip


class Problem(NamedTuple):
    """A fault without its file and line."""

    kind: FaultKind
    text: str


@dataclass(frozen=True)
class Fault:
    """A fault of a dataset.

    file, line: the file to correct and the line where the entry begins; line None: the file as a whole.
    image: the image's file name or id; annotation: the annotation's id, or its number in the file. "": none.
    """

    kind: FaultKind
    file: str
    line: int | None
    problem: str
    image: str = ""
    annotation: str = ""

    @property
    def severity(self) -> str:
        """``"error"`` or ``"warning"``."""
        return self.kind.severity

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        about = [f"{word} {name}" for word, name in (("image", self.image), ("annotation", self.annotation)) if name]
        return ": ".join(filter(None, (place, ", ".join(about), self.problem)))


class DataError(ValueError):
    """A dataset cannot be used.

    Attributes:
        faults: the faults of the dataset, if these are the reason.
        dataset: the dataset without the faulty parts, for reports; None if the data cannot be read at all.
    """

    def __init__(self, message: str, faults: Sequence[Fault] = (), dataset: Any = None) -> None:
        super().__init__(message)
        self.faults = tuple(faults)
        self.dataset = dataset


def fatal(faults: Sequence[Fault], *, skip_faulty: bool) -> list[Fault]:
    """The faults that are errors; with ``skip_faulty``, without faulty boxes."""
    return [fault for fault in faults if fault.severity == "error" and not (skip_faulty and fault.kind.of_box)]


def refuse_faults(faults: Sequence[Fault], *, skip_faulty: bool, dataset: Any = None) -> None:
    """Raises a DataError that lists all fatal faults, if there are any."""
    wrong = fatal(faults, skip_faulty=skip_faulty)
    if not wrong:
        return
    boxes = sum(fault.kind.of_box for fault in wrong)
    if len(wrong) == 1:
        hint = "; correct it, or pass skip_faulty=True to leave it out" if boxes else ""
        raise DataError(f"{wrong[0]}{hint}", faults, dataset)
    if boxes == len(wrong):
        head = f"{boxes} faulty boxes; correct them, or pass skip_faulty=True to leave out exactly these"
    elif boxes:
        head = f"{len(wrong)} faults; correct them ({boxes} of them are boxes, which skip_faulty=True leaves out)"
    else:
        head = f"{len(wrong)} faults; correct them"
    lines = [str(fault) for fault in wrong[:_FAULTS_SHOWN]]
    if len(wrong) > _FAULTS_SHOWN:
        lines.append(f"... and {len(wrong) - _FAULTS_SHOWN} more; jaxdet data CONFIG --check lists all")
    raise DataError(head + ":\n  " + "\n  ".join(lines), faults, dataset)

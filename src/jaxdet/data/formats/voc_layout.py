"""Finding the files of Pascal VOC folders, with any letter case of names and any image format."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from jaxdet.data.faults import DataError, Fault, FaultKind
from jaxdet.data.image_files import FoundFiles, counted, find_files, visible
from jaxdet.data.images import IMAGE_SUFFIXES
from jaxdet.paths import PathLike, read_lines, to_path

_ANNOTATIONS, _IMAGES, _LISTS = ("Annotations",), ("JPEGImages", "images"), ("ImageSets",)
_FLAG = re.compile(r"(.*\S)\s+(-1|0|1)")  # lists for one class have a flag after each name


class VocEntry(NamedTuple):
    """An image by name, with the file and line that list it (line None: the annotation itself)."""

    stem: str
    annotation: str
    file: str
    line: int | None


@dataclass(frozen=True)
class VocLayout:
    """The folders of a Pascal VOC dataset; ``lists``: the folders with lists of images, the best first."""

    root: Path
    annotations: Path
    images: Path
    lists: tuple[Path, ...]

    @cached_property
    def _annotation_files(self) -> _ByStem:
        return _ByStem(_find(self.annotations, (".xml",)))

    @cached_property
    def _image_files(self) -> _ByStem:
        return _ByStem(_find(self.images, IMAGE_SUFFIXES))

    @cached_property
    def _list_files(self) -> dict[str, Path]:
        """The lists by name without ``.txt``."""
        files = [file for folder in reversed(self.lists) for file in visible(folder)]
        return {file.stem: file for file in files if file.suffix.lower() == ".txt"}

    def has_list(self, split: str) -> bool:
        """Whether there is a list with this name, in any letter case."""
        return self._list_file(split) is not None

    def annotation_files(self) -> tuple[str, ...]:
        """All xml files."""
        return self._annotation_files.found.paths

    def entries(self, split: str | None) -> list[VocEntry]:
        """The images of a list; None: all images with an annotation.

        Raises:
            DataError: no such list, or an empty one.
        """
        known = self._annotation_files
        if split is None:
            if not known.found.paths:
                raise DataError(f"{self.annotations}: no xml files; give the folder of a Pascal VOC dataset")
            return [VocEntry(known.stem(path), path, path, None) for path in known.found.paths]
        file, lines = self._read_list(split)
        entries = []
        for number, line in lines:
            stem, path = _named(line, known)
            entries.append(VocEntry(stem, path or str(self.annotations / f"{stem}.xml"), str(file), number))
        return entries

    def image_of(self, stem: str, filename: str) -> str | None:
        """The image of an annotation: the one with the same name; of several, the one in its xml.

        Args:
            filename: the name in the xml, which is also used if no image has the annotation's name.
        """
        files = self._image_files
        own, named = files.of(stem), filename.replace("\\", "/")
        by_name = files.of(os.path.splitext(named)[0]) or files.of(os.path.splitext(os.path.basename(named))[0])
        candidates = own or by_name
        exact = [path for path in candidates if os.path.basename(path) == os.path.basename(named)]
        return next(iter(exact or sorted(candidates, key=_rank)), None)

    def unlisted_faults(self, used: Sequence[str]) -> list[Fault]:
        """Warnings about files that are left out if all annotations are read.

        Args:
            used: the images that are used.
        """
        faults = [*self._annotation_files.found.skipped_faults(), *self._image_files.found.skipped_faults()]
        taken = set(used)
        left = [path for path in self._image_files.found.paths if path not in taken]
        if left:
            text = f"images without an annotation are left out: {counted(list(map(os.path.basename, left)))}"
            faults.append(Fault(FaultKind.UNANNOTATED, str(self.images), None, text))
        if self._list_files:
            text = f"lists of images are not used, as all annotations are read: {counted(sorted(self._list_files))}"
            faults.append(
                Fault(FaultKind.SKIPPED_FILES, str(self.lists[0]), None, f"{text}; give split=NAME to read one")
            )
        return faults

    def _list_file(self, split: str) -> Path | None:
        known = self._list_files
        return known.get(split) or next((file for name, file in known.items() if name.lower() == split.lower()), None)

    def _read_list(self, split: str) -> tuple[Path, list[tuple[int, str]]]:
        """The file of a list, and (line number, text) of its non-empty lines."""
        path = self._list_file(split)
        if path is None:
            place = (self.lists[0] if self.lists else self.root / "ImageSets" / "Main") / f"{split}.txt"
            hint = "" if self.lists else "; split=None reads all annotations"
            known = ", ".join(sorted(self._list_files)) or "none"
            raise DataError(f"{place}: no such split; known: {known}{hint}")
        try:
            lines = read_lines(path)
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read ({error}); write one image name per line") from None
        found = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
        if not found:
            raise DataError(f"{path}: lists no images; write one image name per line")
        return path, found


class _ByStem:
    """Files by their path below the folder without suffix, with the same letter case or, if there is none, any."""

    def __init__(self, found: FoundFiles) -> None:
        self.found = found
        self._exact: dict[str, list[str]] = defaultdict(list)
        self._folded: dict[str, list[str]] = defaultdict(list)
        for path in found.paths:
            self._exact[self.stem(path)].append(path)
            self._folded[self.stem(path).casefold()].append(path)

    def stem(self, path: str) -> str:
        return os.path.splitext(path[len(self.found.folder) :].lstrip("/"))[0]

    def of(self, stem: str) -> list[str]:
        return self._exact.get(stem) or self._folded.get(stem.casefold(), [])


def find_layout(root: PathLike) -> VocLayout | None:
    """The folders of a Pascal VOC dataset: ``Annotations``, ``JPEGImages`` (or ``images``) and ``ImageSets/Main``.

    Letter case does not matter. Alternatively, xml files may be beside their images in ``root``. None if there is
    neither.
    """
    root = to_path(root)
    annotations, lists = _folder(root, _ANNOTATIONS), _folder(root, _LISTS)
    if annotations is None and lists is None:
        return VocLayout(root, root, root, ()) if root.is_dir() and any(map(_is_xml, visible(root))) else None
    annotations = annotations or root / _ANNOTATIONS[0]
    main = None if lists is None else _folder(lists, ("Main",))
    images = _folder(root, _IMAGES) or root / _IMAGES[0]
    return VocLayout(root, annotations, images, tuple(folder for folder in (main, lists) if folder is not None))


def open_layout(root: PathLike) -> VocLayout:
    """`find_layout`, which raises DataError if there is none."""
    layout = find_layout(root)
    if layout is None:
        raise DataError(f"{root}: no folder 'Annotations' and no xml files; give the folder of a Pascal VOC dataset")
    return layout


def _folder(root: Path, names: Sequence[str]) -> Path | None:
    """The first existing folder of these names; the exact letter case is preferred."""
    folders = [path for path in visible(root) if path.is_dir()] if root.is_dir() else []
    for name in names:
        alike = [path for path in folders if path.name.lower() == name.lower()]
        if alike:
            return next((path for path in alike if path.name == name), alike[0])
    return None


def _find(folder: Path, suffixes: Sequence[str]) -> FoundFiles:
    """The files of a folder; none if it does not exist, as missing files are reported for each image."""
    return find_files(folder, suffixes) if folder.is_dir() else FoundFiles(os.fspath(folder), (), ())


def _is_xml(path: Path) -> bool:
    return path.suffix.lower() == ".xml"


def _named(line: str, known: _ByStem) -> tuple[str, str | None]:
    """The name in a line of a list, and its annotation, if it exists.

    The name is the whole line, which may have blanks, or the line without a flag or a suffix.
    """
    flagged = _FLAG.fullmatch(line)
    names = [line, *([flagged[1]] if flagged else [])]
    suffixes = (".xml", *IMAGE_SUFFIXES)
    names += [os.path.splitext(name)[0] for name in names if name.lower().endswith(suffixes)]
    for name in names:
        files = known.of(name)
        if files:
            return known.stem(files[0]), files[0]
    return names[-1], None


def _rank(path: str) -> tuple[int, str]:
    return IMAGE_SUFFIXES.index(os.path.splitext(path)[1].lower()), path

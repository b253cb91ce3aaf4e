"""Finding image files in folders, for datasets and for detection.

Hidden and system files are left out and counted, as they may be copies of images: ``.ipynb_checkpoints/``,
``.Trash-1000/``, AppleDouble files (``._a.jpg``), ``__MACOSX/``, previews of Windows and of network disks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxdet.data.faults import DataError, Fault, FaultKind
from jaxdet.data.images import IMAGE_SUFFIXES
from jaxdet.paths import PathLike, is_remote, to_path

_SYSTEM = frozenset(
    {
        "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information",
        "lost+found", "@eadir", "#recycle",
    }
)  # fmt: skip
_SHOWN = 3  # names in messages


@dataclass(frozen=True)
class FoundFiles:
    """The files of a folder. ``paths``: to use, sorted by their parts; ``skipped``: hidden and system files."""

    folder: str
    paths: tuple[str, ...]
    skipped: tuple[str, ...]

    def skipped_faults(self) -> list[Fault]:
        """A warning with the number of files that are left out, if any."""
        if not self.skipped:
            return []
        skipped = [os.path.relpath(path, self.folder) for path in self.skipped]
        text = f"hidden and system files are left out: {counted(skipped)}"
        return [Fault(FaultKind.SKIPPED_FILES, self.folder, None, text)]


def counted(names: Sequence[str]) -> str:
    """The number of names and the first few: ``4 (a, b, c, ...)``."""
    return f"{len(names)} ({', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''})"


def find_images(folder: PathLike) -> FoundFiles:
    """All images in a folder and its subfolders. Suffixes may have any letter case; links are followed.

    The folder itself may be hidden.

    Raises:
        DataError: a folder cannot be listed.
    """
    return find_files(folder, IMAGE_SUFFIXES)


def find_files(folder: PathLike, suffixes: Sequence[str]) -> FoundFiles:
    """`find_images` for files with other suffixes, given in lower case."""
    root, wanted = os.fspath(folder), tuple(suffixes)
    found: list[tuple[list[str], bool]] = []
    for parts, hidden in _in_bucket(to_path(root), wanted) if is_remote(root) else _on_disk(root):
        if parts[-1].lower().endswith(wanted):
            found.append((parts, hidden))
    found.sort()
    paths: tuple[list[str], list[str]] = ([], [])
    for parts, hidden in found:
        paths[hidden].append(os.path.join(root, *parts))
    return FoundFiles(root, tuple(paths[False]), tuple(paths[True]))


def is_system_name(name: str) -> bool:
    """Whether a file or folder with this name is hidden or a system file."""
    return name.startswith(".") or name.lower() in _SYSTEM


def visible(folder: Path) -> list[Path]:
    """The sorted entries of a folder, without hidden and system files; none if the folder does not exist."""
    return sorted(path for path in folder.glob("*") if not is_system_name(path.name))


def _on_disk(root: str) -> Iterator[tuple[list[str], bool]]:
    """(parts of the path below the root, whether one of them is a system name) for all files."""

    def fail(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be listed ({error.strerror}); check its permissions") from error

    for parent, folders, files in os.walk(root, followlinks=True, onerror=fail):
        folders[:] = [name for name in folders if not _is_cycle(parent, name)]
        above = [] if parent == root else os.path.relpath(parent, root).split(os.sep)
        hidden = any(map(is_system_name, above))
        for name in files:
            yield [*above, name], hidden or is_system_name(name)


def _is_cycle(parent: str, name: str) -> bool:
    """Whether a folder is a link to one of its parents."""
    path = os.path.join(parent, name)
    if not os.path.islink(path):
        return False
    target, here = os.path.realpath(path), os.path.realpath(parent)
    return os.path.commonpath([target, here]) == target


def _in_bucket(folder: Path, wanted: tuple[str, ...], above: tuple[str, ...] = ()) -> Iterator[tuple[list[str], bool]]:
    """`_on_disk` for a bucket. System folders are not listed, as listing is slow."""
    for entry in folder.iterdir() if folder.is_dir() else ():
        system = is_system_name(entry.name)
        # Entries with the suffix are taken for files, as is_dir is slow, too.
        if entry.name.lower().endswith(wanted) or (not system and not entry.is_dir()):
            yield [*above, entry.name], system
        elif not system:
            yield from _in_bucket(entry, wanted, (*above, entry.name))

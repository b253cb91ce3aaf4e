"""What goes wrong on disks, in a line."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from etils import epath

from jaxdet.paths import is_remote


def reason(error: BaseException) -> str:
    """The reason within what Orbax and TensorStore say at length."""
    text = str(error).strip() or type(error).__name__
    system = re.search(r": ([^:\"]+) \[os_error_code", text)
    if system:
        return system[1]
    return "its arrays are damaged" if "TensorStore" in text else text.splitlines()[0][:300]


def remove(folder: Path) -> None:
    """Removes a folder with all that is in it, if it is there."""
    if is_remote(folder):
        epath.Path(folder).rmtree(missing_ok=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def put_in_place(staging: Path, target: Path) -> None:
    """Renames a finished folder to its place; one that is there goes only once the new one has its place.

    A bucket renames file by file.
    """
    if is_remote(target):
        remove(target)
        staging.rename(target)
        return
    old = target.with_name(f".{target.name}-old-{os.getpid()}")
    if target.exists():
        target.rename(old)
    try:
        staging.rename(target)
    except BaseException:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)

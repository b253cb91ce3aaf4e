"""Short messages for disk errors, and removing and replacing folders."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from etils import epath

from jaxdet.paths import is_remote


def reason(error: BaseException) -> str:
    """The reason of an error in one line, extracted from the long messages of Orbax and TensorStore."""
    text = str(error).strip() or type(error).__name__
    system = re.search(r": ([^:\"]+) \[os_error_code", text)
    if system:
        return system[1]
    return "its arrays are damaged" if "TensorStore" in text else text.splitlines()[0][:300]


def remove(folder: Path) -> None:
    """Removes a folder and its contents, if it exists."""
    if is_remote(folder):
        epath.Path(folder).rmtree(missing_ok=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def put_in_place(staging: Path, target: Path) -> None:
    """Renames a finished folder to ``target``. An existing folder is removed after that.

    In buckets, it is removed first, and files are renamed one by one, so that this is not atomic.
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

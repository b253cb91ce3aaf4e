"""Writes the zip format of ``torch.save`` without torch; ``torch.load(path, weights_only=True)`` reads it.

The pickle in it is composed by hand, because it has to name torch's functions without importing them.
"""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from jaxdet_convert.read.pickle_file import STORAGES

_CLASSES = {dtype: name for name, dtype in STORAGES.items()}
_ALIGNMENT = 64  # bytes; of each storage in the file, as in torch, so that it can be memory-mapped


def save_torch(path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray]) -> None:
    """Saves ``{name: array}`` as a state dict, in order. An interrupted call leaves no incomplete file.

    Raises:
        ValueError: a dtype has no storage class in torch. Nothing is written.
        OSError: the folder cannot be written to.
    """
    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    for name, array in arrays.items():
        if array.dtype not in _CLASSES or array.dtype.byteorder == ">":
            known = ", ".join(sorted(str(dtype) for dtype in _CLASSES))
            raise ValueError(
                f"{name} has the dtype {array.dtype}, which cannot be written; convert it to one of: {known}"
            )
    with _replacing(Path(path)) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, file.tell(), "archive/data.pkl", _state_dict(arrays))
        _add(archive, file.tell(), "archive/byteorder", b"little")
        for key, array in enumerate(arrays.values()):
            _add(archive, file.tell(), f"archive/data/{key}", array.tobytes())
        _add(archive, file.tell(), "archive/version", b"3\n")


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A temporary file in the same folder, which replaces the file at ``path`` if no exception is raised."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with open(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes the file private; give it the permissions of a file that open() creates.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _add(archive: zipfile.ZipFile, offset: int, name: str, data: bytes) -> None:
    # A fixed date, so that equal weights give equal files.
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    # A local header has 30 bytes, the name, and the extra field with a 4-byte header; zip64 (from 2 GiB) adds 20 bytes.
    large = 20 if len(data) * 1.05 > zipfile.ZIP64_LIMIT else 0
    padding = -(offset + 30 + len(name) + large + 4) % _ALIGNMENT
    info.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    archive.writestr(info, data)


def _state_dict(arrays: Mapping[str, np.ndarray]) -> bytes:
    """A pickle (protocol 2) of an OrderedDict of tensors, whose storages are numbered in order."""
    parts = [b"\x80\x02", _class("collections", "OrderedDict"), b")R("]
    for key, (name, array) in enumerate(arrays.items()):
        strides = [stride // array.itemsize for stride in _c_strides(array)]
        storage = [
            *(_text("storage"), _class("torch", _CLASSES[array.dtype]), _text(str(key)), _text("cpu")),
            _integer(array.size),
        ]
        hooks = _class("collections", "OrderedDict") + b")R"
        tensor = [_tuple(storage) + b"Q", _integer(0), _integers(array.shape), _integers(strides), b"\x89", hooks]
        parts += [_text(name), _class("torch._utils", "_rebuild_tensor_v2"), _tuple(tensor), b"R"]
    return b"".join([*parts, b"u."])


def _c_strides(array: np.ndarray) -> tuple[int, ...]:
    # numpy's own strides of empty arrays and of axes of length 1 are arbitrary.
    sizes = [max(size, 1) for size in array.shape]
    return tuple(array.itemsize * int(np.prod(sizes[axis + 1 :], dtype=np.int64)) for axis in range(array.ndim))


def _class(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _text(text: str) -> bytes:
    data = text.encode("utf-8")
    return b"X" + struct.pack("<I", len(data)) + data


def _integer(value: int) -> bytes:
    if value < 2**31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)


def _tuple(items: list[bytes]) -> bytes:
    return b"(" + b"".join(items) + b"t"


def _integers(values: tuple[int, ...] | list[int]) -> bytes:
    return _tuple([_integer(value) for value in values])

"""The two formats of ``torch.save``: a zip archive, and before torch 1.6 a sequence of pickles and storages.

Both readers return the unpickled ``root``, in which tensors are `TensorRef`, and read a storage only when it is needed,
so that the state of an optimizer is not read.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
from typing import Any, BinaryIO

import numpy as np

from jaxdet_convert.read.errors import SAVE_LINE, refuse
from jaxdet_convert.read.pickle_file import Pickle, RefusedGlobal, TensorRef, materialize, scan

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
# Limits of a zip entry: bytes, or the ratio to its compressed size if that is more.
_MOST_BYTES, _MOST_RATIO = 64 << 20, 20
_AGAIN = "download or copy it again"
_LITTLE = f"save it again on a little-endian machine: {SAVE_LINE}"


def _load(pickle: Pickle, file: str) -> tuple[Any, dict[str, int]]:
    try:
        return pickle.load()
    except RefusedGlobal as refused:
        if pickle.holds_module:
            raise refuse(
                file,
                f"it is a pickled model (class {refused.name}), which cannot be read without running its code",
                f"where that class can be imported, save the state dict instead: {SAVE_LINE}",
            ) from None
        raise refuse(
            file,
            f"its pickle refers to {refused.name}, which weights do not need and which is never run",
            f"if you trust its author, load it with torch and save only the state dict: {SAVE_LINE}",
        ) from None
    except Exception as error:
        raise refuse(file, f"its pickle is damaged ({type(error).__name__}: {error})", _AGAIN) from error


class _Reader:
    """The common part of both formats: reading storages by key, each once."""

    source: str
    root: Any

    def __init__(self, file: str) -> None:
        self._file = file
        self._cache: dict[str, np.ndarray] = {}

    def tensor(self, name: str, ref: TensorRef) -> np.ndarray:
        """The tensor as a read-only array. Tensors with a common storage share memory.

        Raises:
            WeightsError: its storage is missing, truncated or damaged.
        """
        storage = ref.storage
        try:
            raw = self._cache.get(storage.key)
            if raw is None:
                raw = self._cache[storage.key] = np.frombuffer(self._bytes(storage.key), np.uint8)
            size = 1 if storage.dtype is None else storage.dtype.itemsize
            start, end = storage.start * size, (storage.start + storage.numel) * size
            if end > len(raw):
                raise ValueError(f"storage {storage.key} has {len(raw)} bytes instead of {end}")
            return materialize(ref, raw[start:end])
        except Exception as error:  # zipfile and numpy raise many types
            raise refuse(self._file, f"the tensor {name} cannot be read ({error})", _AGAIN) from error

    def _bytes(self, key: str) -> bytes:
        raise NotImplementedError


class ZipReader(_Reader):
    """Reads a checkpoint of torch 1.6 or later from ``stream``.

    Raises:
        WeightsError: it is damaged, not a checkpoint, TorchScript, big-endian, or contains code.
    """

    source = "torch-zip"

    def __init__(self, file: str, stream: BinaryIO) -> None:
        super().__init__(file)
        try:
            self._zip = zipfile.ZipFile(stream)
            names = self._zip.namelist()
        except Exception as error:
            raise refuse(file, f"it is a truncated or damaged zip archive ({error})", _AGAIN) from error
        pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise refuse(
                file, "it is a zip archive without a torch checkpoint's data.pkl", "unpack it and give the file inside"
            )
        self._folder = pickles[0].removesuffix("data.pkl")
        if self._folder + "constants.pkl" in names:
            remedy = f"load it with torch.jit.load and save its state dict: {SAVE_LINE}"
            raise refuse(file, "it is a TorchScript archive, which is a program", remedy)
        try:
            order = self._entry(self._folder + "byteorder") if self._folder + "byteorder" in names else b"little"
            pickle = scan(io.BytesIO(self._entry(pickles[0])))
        except Exception as error:
            raise refuse(file, f"its data.pkl is truncated or damaged ({error})", _AGAIN) from error
        if order != b"little":
            raise refuse(file, f"its byte order is {order.decode('latin1')!r}, not little-endian", _LITTLE)
        self.root, _ = _load(pickle, file)

    def _bytes(self, key: str) -> bytes:
        return self._entry(f"{self._folder}data/{key}")

    def _entry(self, name: str) -> bytes:
        """The bytes of an entry. Weights are hardly compressible, so that a high ratio indicates a zip bomb."""
        info = self._zip.getinfo(name)
        if info.file_size > max(_MOST_BYTES, _MOST_RATIO * info.compress_size):
            raise ValueError(f"its {name} expands from {info.compress_size} to {info.file_size} bytes")
        return self._zip.read(info)


class LegacyReader(_Reader):
    """Reads a checkpoint of torch before 1.6 from ``stream``.

    The format is: magic number, protocol, machine, value, keys, storages.

    Raises:
        WeightsError: it is damaged, another pickle, big-endian, or contains code.
    """

    source = "torch-legacy"

    def __init__(self, file: str, stream: BinaryIO) -> None:
        super().__init__(file)
        self._stream = stream
        if self._next() != _MAGIC:
            remedy = f"give a file that torch.save wrote: {SAVE_LINE}"
            raise refuse(file, "it is a Python pickle, but not a torch checkpoint", remedy)
        protocol = self._next()
        if protocol != _PROTOCOL:
            raise refuse(file, "its legacy format has an unknown protocol number", f"save it again: {SAVE_LINE}")
        machine = self._next()
        if not isinstance(machine, dict) or machine.get("little_endian") is not True:
            raise refuse(file, "it was written on a big-endian machine", _LITTLE)
        self.root, element_sizes = self._next_with_sizes()
        self._places = self._find_storages(element_sizes)

    def _next_with_sizes(self) -> tuple[Any, dict[str, int]]:
        try:
            pickle = scan(self._stream)
        except Exception as error:
            raise refuse(self._file, f"it is truncated or damaged ({error})", _AGAIN) from error
        return _load(pickle, self._file)

    def _next(self) -> Any:
        return self._next_with_sizes()[0]

    def _find_storages(self, sizes: dict[str, int]) -> dict[str, tuple[int, int]]:
        """The positions of the storages, ``{key: (first byte, number of bytes)}``.

        Each storage starts with its number of elements, so that the next one is found by the size of an element.
        """
        keys = self._next()
        end = os.fstat(self._stream.fileno()).st_size
        places: dict[str, tuple[int, int]] = {}
        for key in keys if isinstance(keys, list) else [None]:
            if not isinstance(key, str) or key not in sizes:
                raise refuse(self._file, "its list of storages does not fit its tensors", _AGAIN)
            head = self._stream.read(8)
            count = struct.unpack("<q", head)[0] if len(head) == 8 else -1
            place = (self._stream.tell(), count * sizes[key])
            if count < 0 or sum(place) > end:
                raise refuse(self._file, f"it is truncated in storage {len(places) + 1} of {len(keys)}", _AGAIN)
            places[key] = place
            self._stream.seek(sum(place))
        return places

    def _bytes(self, key: str) -> bytes:
        first, size = self._places[key]
        self._stream.seek(first)
        return self._stream.read(size)

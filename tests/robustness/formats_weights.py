"""Images and weights: binary files, whole and within their checksums."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from jaxdet.data.faults import DataError
from jaxdet.data.images import image_problems, read_image, read_image_size
from jaxdet_convert.read.darknet_file import DarknetLayer
from jaxdet_convert.read.errors import WeightsError
from jaxdet_convert.read.weights import Weights, read_weights
from robustness.attempt import MEMORY, Format

# ---- images

_PIXELS = np.random.default_rng(0).integers(0, 256, (12, 18, 3), np.uint8)


def _make_image(folder: Path, name: str, **options: Any) -> Path:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(_PIXELS).save(folder / name, exif=exif, **options)
    return folder / name


def _open_image(file: Path) -> tuple[Path, np.ndarray]:
    read_image_size(file)
    return file, read_image(file)


def _use_image(found: tuple[Path, np.ndarray]) -> None:
    file, pixels = found
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size
    for problem in image_problems(lambda: SimpleNamespace(image=read_image(file)), str(file)):
        str(problem).encode()


def _png_without_sums(content: bytes) -> bytes:
    """The chunks without their checksums."""
    parts, position = [], 8
    while position < len(content):
        length = struct.unpack_from(">I", content, position)[0]
        parts.append(content[position : position + 8 + length])
        position += 12 + length
    return b"".join(parts)


def _png_with_sums(part: bytes) -> bytes:
    """Chunks with checksums to fit, as long as there are whole chunks; what is left follows as it is."""
    parts, position = [b"\x89PNG\r\n\x1a\n"], 0
    while position + 8 <= len(part):
        length = min(struct.unpack_from(">I", part, position)[0], len(part) - position - 8)
        chunk = part[position : position + 8 + length]
        parts += [chunk, struct.pack(">I", zlib.crc32(chunk[4:]))]
        position += 8 + length
    return b"".join([*parts, part[position:]])


IMAGES: tuple[Format, ...] = (
    *(
        Format(
            name, "bytes", DataError, partial(_make_image, name=f"1.{suffix}", **options), _open_image, _use_image
        )
        for name, suffix, options in (
            ("JPEG", "jpg", {"quality": 90}), ("JPEG, progressive", "jpg", {"progressive": True}), ("PNG", "png", {}),
            ("TIFF", "tif", {"compression": "tiff_lzw"}), ("WebP", "webp", {}), ("BMP", "bmp", {}), ("PPM", "ppm", {}),
        )
    ),
    Format(
        "PNG chunks", "bytes", DataError, partial(_make_image, name="1.png"), _open_image, _use_image,
        _png_without_sums, _png_with_sums,
    ),
)  # fmt: skip

# ---- weights


class _Storage:
    """Pickles as an external reference to a storage."""

    def __init__(self, kind: str, key: str, count: int) -> None:
        self.reference = "storage", _Global("torch", kind), key, "cpu", count


class _Global:
    """Pickles as a global name."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class _Tensor:
    """Pickles as torch's tensors do."""

    def __init__(self, kind: str, key: str, *shape: int) -> None:
        strides = tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))
        self.arguments = _Storage(kind, key, int(np.prod(shape))), 0, shape, strides, False, OrderedDict()


class _Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """Python's own pickler, which lets a name be written that cannot be imported."""

    def persistent_id(self, value: Any) -> Any:
        return value.reference if isinstance(value, _Storage) else None

    def save(self, value: Any, save_persistent_id: bool = True) -> None:
        if isinstance(value, _Global):
            self.write(f"c{value.module}\n{value.name}\n".encode())
        elif isinstance(value, _Tensor):
            self.save(_Global("torch._utils", "_rebuild_tensor_v2"))
            self.save(value.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(value, save_persistent_id)


def _pickled(value: Any) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, 2).dump(value)
    return stream.getvalue()


_TENSORS = {"conv.weight": _Tensor("FloatStorage", "0", 4, 3, 3, 3), "conv.bias": _Tensor("DoubleStorage", "1", 4)}
_STATE = {
    "epoch": 3,
    "state_dict": OrderedDict(_TENSORS),
    "optimizer": {"lr": 0.1, "step": _Tensor("LongStorage", "2", 1)},
}
_RAW = {"0": np.arange(108, dtype="<f4").tobytes(), "1": np.arange(4, dtype="<f8").tobytes(), "2": bytes(8)}
_ELEMENTS = {"0": 108, "1": 4, "2": 1}


def _zip(data: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/byteorder", "little")
        for key, raw in _RAW.items():
            archive.writestr(f"archive/data/{key}", raw)
        archive.writestr("archive/version", "3\n")
    return stream.getvalue()


def _make_bytes(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def _unzip(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read("archive/data.pkl")


def _legacy() -> bytes:
    head = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}]
    parts = [*(pickle.dumps(item, 2) for item in head), _pickled(_STATE), pickle.dumps(sorted(_RAW), 2)]
    return b"".join([*parts, *(struct.pack("<q", _ELEMENTS[key]) + _RAW[key] for key in sorted(_RAW))])


_SAFETENSORS_HEADER = {
    "__metadata__": {"format": "pt"},
    "conv.weight": {"dtype": "F32", "shape": [4, 3, 3, 3], "data_offsets": [0, 432]},
    "conv.bias": {"dtype": "F64", "shape": [4], "data_offsets": [432, 464]},
}


def _safetensors(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + _RAW["0"] + _RAW["1"]


def _safetensors_header(content: bytes) -> bytes:
    return content[8 : 8 + struct.unpack("<Q", content[:8])[0]]


_LAYERS = (DarknetLayer("c1", 2, 3, 3), DarknetLayer("c2", 4, 2, 1), DarknetLayer("fc", 3, 4, 1, batch_norm=False))
_NUMBERS = sum(layer.numbers for layer in _LAYERS)


def _open_darknet(file: Path) -> Weights:
    return read_weights(file, layers=_LAYERS)


def _use_weights(weights: Weights) -> None:
    assert weights.tensors and sum(array.nbytes for array in weights.tensors.values()) < MEMORY
    for name, array in weights.tensors.items():
        name.encode()
        np.array(array)
    " ".join(map(str, (weights.container, weights.prefix, *weights.beside))).encode()


_SAFETENSORS = _safetensors(json.dumps(_SAFETENSORS_HEADER).encode())

WEIGHTS: tuple[Format, ...] = tuple(
    Format(name, syntax, WeightsError, partial(_make_bytes, name=file, content=content), read, _use_weights, *within)
    for name, syntax, file, content, read, *within in (
        ("torch zip", "bytes", "w.pth", _zip(_pickled(_STATE)), read_weights),
        ("torch zip, compressed", "bytes", "w.pth", _zip(_pickled(_STATE), zipfile.ZIP_DEFLATED), read_weights),
        ("torch zip's data.pkl", "bytes", "w.pth", _zip(_pickled(_STATE)), read_weights, _unzip, _zip),
        ("torch legacy", "bytes", "w.pth", _legacy(), read_weights),
        ("safetensors", "bytes", "w.safetensors", _SAFETENSORS, read_weights),
        ("safetensors header", "json", "w.safetensors", _SAFETENSORS, read_weights, _safetensors_header, _safetensors),
        (
            "Darknet", "bytes", "w.weights",
            struct.pack("<3iQ", 0, 2, 5, 32_000) + np.arange(_NUMBERS, dtype="<f4").tobytes(), _open_darknet,
        ),
    )
)  # fmt: skip

"""Reading safetensors files, and weights that are split into several files (shards) with an index.

An index is JSON: ``{"weight_map": {tensor: file}}``, with files in the index's folder.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import ml_dtypes
import numpy as np

from jaxdet.paths import is_remote
from jaxdet_convert.read.errors import WeightsError, refuse

_AGAIN = "download or copy it again"
_INDEX_LIMIT = 64 << 20  # bytes; the indices of the largest published models have less than 1 MB
_DTYPES: dict[str, np.dtype] = {
    "BOOL": np.dtype(np.bool_),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "C64": np.dtype(np.complex64),
    **{f"F{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    **{f"I{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"U{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
}


def read_safetensors(file: str) -> dict[str, np.ndarray]:
    """The tensors of one file.

    Raises:
        WeightsError: it is damaged, empty, or contains an unknown dtype.
    """
    try:
        import safetensors
    except ImportError as error:
        raise refuse(file, "reading it needs the safetensors library", "pip install safetensors") from error
    try:
        entries = safetensors.deserialize(Path(file).read_bytes())
    except Exception as error:
        raise refuse(file, f"it is a damaged safetensors file ({error})", _AGAIN) from error
    tensors = {}
    for name, entry in entries:
        dtype = _DTYPES.get(entry["dtype"])
        if dtype is None:
            raise refuse(file, f"the tensor {name} has the dtype {entry['dtype']}", "save it as float32")
        tensors[name] = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
    if not tensors:
        raise refuse(file, "it contains no tensors", "give a file with weights")
    return tensors


def is_sharded(weights: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder of sharded weights. Raises as `find_index` does."""
    return not is_remote(weights) and Path(weights).is_dir() and find_index(Path(weights)) is not None


def find_index(folder: Path) -> Path | None:
    """The index of sharded weights in a folder, preferably of safetensors; None if there is none.

    Raises:
        WeightsError: there are several.
    """
    for pattern in ("*.safetensors.index.json", "*.index.json"):
        found = sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise refuse(folder, f"it contains several indices of sharded weights ({names})", "give one of them")
        if found:
            return found[0]
    return None


def read_sharded(file: str, read_shard: Callable[[str], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The tensors of all shards, in the order of the index, followed by those that it does not list.

    Raises:
        WeightsError: the index is damaged or names a file outside its folder; a shard or a listed tensor is missing; or
            two shards contain the same tensor.
    """
    places = _weight_map(file)
    folder = Path(file).parent
    shard_of: dict[str, str] = {}
    tensors: dict[str, np.ndarray] = {}
    for shard in dict.fromkeys(places.values()):
        path = folder / shard
        if not os.path.isfile(path):  # unlike Path.is_file, False for a name that is too long
            raise refuse(file, f"its shard {shard} is missing", f"put it into {folder}, or download all files again")
        for name, tensor in read_shard(str(path)).items():
            if name in tensors:
                raise refuse(file, f"the tensor {name} is in both {shard_of[name]} and {shard}", _AGAIN)
            tensors[name], shard_of[name] = tensor, shard
    for name, shard in places.items():
        if shard_of.get(name) != shard:
            there = f", but in {shard_of[name]}" if name in shard_of else ""
            raise refuse(file, f"the tensor {name} is not in {shard}, as the index says{there}", _AGAIN)
    return {name: tensors[name] for name in [*places, *(name for name in tensors if name not in places)]}


def _weight_map(file: str) -> dict[str, str]:
    try:
        size = Path(file).stat().st_size
        if size > _INDEX_LIMIT:
            raise ValueError(f"it has {size} bytes, but an index has at most {_INDEX_LIMIT}")
        index = json.loads(Path(file).read_bytes(), object_pairs_hook=_without_duplicates)
    except WeightsError as error:
        raise refuse(file, str(error), _AGAIN) from None
    except (OSError, ValueError, RecursionError) as error:
        raise refuse(file, f"it is JSON that cannot be read ({error})", _AGAIN) from error
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(shard, str) for shard in places.values()):
        raise refuse(
            file, 'it is JSON, but not an index of sharded weights ("weight_map": {tensor: file})',
            "give a weights file, or the *.safetensors.index.json",
        )  # fmt: skip
    for shard in places.values():
        if not _is_inside(shard):
            raise refuse(file, f"its shard {shard!r} is not a file in the index's folder", "correct the index")
    return places


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise WeightsError(f"the index names {twice} twice")
    return found


def _is_inside(shard: str) -> bool:
    """Whether the path of a shard is in the index's folder. Links are not resolved, as download caches use them."""
    path = PurePosixPath(shard)
    absolute = path.is_absolute() or bool(PureWindowsPath(shard).anchor)
    return bool(path.parts) and not absolute and ".." not in path.parts and "\\" not in shard and shard.isprintable()

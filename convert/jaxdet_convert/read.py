"""Weights of any source as `{name: array}`, without torch and without running anything of the file's.

Reads checkpoints of `torch.save` (zip and legacy), safetensors, Darknet's `.weights`, and mappings of arrays or tensors
that are already in memory. What a file is, is told by its first bytes and not by its name.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from jaxdet_convert.read_darknet import DarknetHeader, DarknetLayer, darknet_tensors, read_darknet
from jaxdet_convert.read_errors import SAVE_LINE, WeightsError, refuse
from jaxdet_convert.read_pickle import TensorRef
from jaxdet_convert.read_torch import LegacyReader, ZipReader

CONTAINERS = ("state_dict", "model", "model_state_dict", "model_ema")  # in the order in which they are looked for
PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and its like, and of torch.compile
_COUNTER = "n_averaged"  # beside `module.*` in torch's AveragedModel: it counts the averages, not the model's batches

_AGAIN = "download or copy it again"
_GIVE = "give a .pth, .pt, .tar, .safetensors or .weights file"

_SAFETENSORS_DTYPES: dict[str, np.dtype] = {
    "BOOL": np.dtype(np.bool_),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "C64": np.dtype(np.complex64),
    **{f"F{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    **{f"I{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"U{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
}


@dataclass(frozen=True, eq=False)
class Weights:
    """Named tensors and where they came from.

    Attributes:
        tensors: {name: array}, in the file's order. Arrays may be read-only, strided, and share memory.
        source: "torch-zip", "torch-legacy", "safetensors", "darknet" or "mapping".
        file: the path as given; "" for a mapping.
        container: the key under which the state dict lay; None where the file itself is one.
        prefix: what was taken off every name, such as "module."; "" where nothing was.
        beside: entries that were left out, such as "optimizer" and "epoch".
        header: of a Darknet file only.
    """

    tensors: dict[str, np.ndarray]
    source: str
    file: str = ""
    container: str | None = None
    prefix: str = ""
    beside: tuple[str, ...] = ()
    header: DarknetHeader | None = None


def read_weights(
    weights: str | os.PathLike[str] | Mapping[str, Any],
    *,
    container: str | None = None,
    layers: Sequence[DarknetLayer] | Callable[[int], Sequence[DarknetLayer]] | None = None,
) -> Weights:
    """Reads a weights file, or takes a mapping of arrays or torch tensors.

    Args:
        weights: a path, or {name: array}.
        container: the entry that holds the state dict, where a checkpoint has several; by default the first of
            `CONTAINERS`, so `model_ema` only where it is the only one.
        layers: the convolutions of a Darknet network in the file's order, or what gives them for its count of numbers;
            only such a file needs them.

    Raises:
        WeightsError: one line with the file, what is wrong with it, and what to do.
    """
    if isinstance(weights, Mapping):
        state, chosen, beside = _choose(weights, container, "the mapping", lambda value: hasattr(value, "shape"))
        tensors = {name: _to_numpy(name, value) for name, value in state.items()}
        return _without_prefix(Weights(tensors, "mapping", "", chosen, "", beside))
    file = os.fspath(weights)
    kind = _kind(file)
    if kind == "safetensors":
        return _without_prefix(Weights(_read_safetensors(file), kind, file))
    if kind == "darknet":
        header, flat = read_darknet(file)
        if layers is None:
            remedy = "name its network, or pass layers="
            raise refuse(
                file, f"its {len(flat)} numbers are of a Darknet network, whose layers it does not name", remedy
            )
        try:
            layers = layers(len(flat)) if callable(layers) else layers
            return Weights(darknet_tensors(flat, layers), kind, file, header=header)
        except ValueError as error:
            raise WeightsError(f"{file}: {error}") from None
    with open(file, "rb") as stream:
        reader = ZipReader(file, stream) if kind == "torch-zip" else LegacyReader(file, stream)
        state, chosen, beside = _choose(reader.root, container, file, lambda value: isinstance(value, TensorRef))
        tensors = {name: reader.tensor(name, ref) for name, ref in state.items()}
    return _without_prefix(Weights(tensors, kind, file, chosen, "", beside))


def _kind(file: str) -> str:
    path = Path(file)
    try:
        if path.is_dir():
            raise refuse(file, "it is a directory", f"{_GIVE} in it")
        with path.open("rb") as stream:
            head = stream.read(512)
            size = os.fstat(stream.fileno()).st_size
    except FileNotFoundError as error:
        raise refuse(file, "there is no such file", "check the path, or download it first") from error
    except OSError as error:
        raise refuse(file, f"it cannot be opened ({error.strerror})", "check the path and its permissions") from error
    if not head:
        raise refuse(file, "it is empty", _AGAIN)
    if head.startswith(b"PK\x03\x04"):
        return "torch-zip"
    if head[0] == 0x80 and (len(head) == 1 or head[1] <= 5):
        return "torch-legacy"
    if head.lstrip().startswith(b"<"):
        raise refuse(
            file, "it is a web page (HTML), so the download went wrong", "download it again from a direct link"
        )
    if head.startswith(b"version https://git-lfs"):
        raise refuse(file, "it is a Git LFS pointer and not the file itself", "run `git lfs pull`")
    if head[257:262] == b"ustar" or head.startswith(b"\x1f\x8b"):
        raise refuse(file, "it is a packed archive (tar or gzip)", "unpack it and give the file inside")
    if len(head) > 8 and head[8:9] == b"{" and path.suffix != ".weights":
        if struct.unpack("<Q", head[:8])[0] + 8 > size:
            raise refuse(file, "it is a safetensors file that is cut short", _AGAIN)
        return "safetensors"
    # Darknet has no magic number, so its name helps: darknet53.weights, darknet53.conv.74.
    if path.suffix == ".weights" or ".conv." in path.name:
        return "darknet"
    wrong = "it is cut short" if size < 16 else "it is no format that is known here"
    raise refuse(file, f"{wrong} ({size} bytes, starting with {head[:8].hex(' ')})", f"{_GIVE}, or {_AGAIN}")


def _read_safetensors(file: str) -> dict[str, np.ndarray]:
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
        dtype = _SAFETENSORS_DTYPES.get(entry["dtype"])
        if dtype is None:
            raise refuse(file, f"the tensor {name} has the dtype {entry['dtype']}", "save it as float32")
        tensors[name] = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
    if not tensors:
        raise refuse(file, "it holds no tensors", "give a file with weights")
    return tensors


def _to_numpy(name: str, value: Any) -> np.ndarray:
    """A copy where it is a torch tensor: training on must not change what was read."""
    if not hasattr(value, "detach"):
        return np.asarray(value)
    value = value.detach().cpu()
    if str(value.dtype) != "torch.bfloat16":
        return np.array(value.numpy())
    # numpy's bridge knows no bfloat16: its bits are the upper half of float32's.
    bits = value.float().numpy().view(np.uint32) >> np.uint32(16)
    return np.asarray(bits, np.uint16).view(ml_dtypes.bfloat16)


def _choose(
    root: Any, container: str | None, file: str, is_tensor: Any
) -> tuple[Mapping[str, Any], str | None, tuple[str, ...]]:
    """The state dict in what a file holds, the key it lay under, and the names of what lay beside it."""
    remedy = f"give a file with a state dict: {SAVE_LINE}"
    if not isinstance(root, Mapping):
        kind = "a single tensor" if is_tensor(root) else f"a {type(root).__name__}"
        raise refuse(file, f"it holds {kind} and no state dict", remedy)
    inner = [str(key) for key, value in root.items() if isinstance(value, Mapping)]
    if container is not None and container not in inner:
        raise refuse(file, f"it has no container {container!r}", f"choose one of: {', '.join(sorted(inner)) or 'none'}")
    if container is None:
        container = next((key for key in CONTAINERS if key in inner), None)
    state = root if container is None else root[container]
    where = "" if container is None else f" under {container!r}"
    if not any(is_tensor(value) for value in state.values()):
        known = f"its entries are: {', '.join(sorted(map(str, state))[:8]) or 'none'}"
        raise refuse(file, f"it holds no tensors{where} ({known})", f"{remedy}; or name the container")
    for name, value in state.items():
        if not isinstance(name, str) or not is_tensor(value):
            raise refuse(file, f"the entry {name!s}{where} is a {type(value).__name__} and not a tensor", remedy)
    return state, container, () if container is None else tuple(str(key) for key in root if key != container)


def _without_prefix(weights: Weights) -> Weights:
    """Takes off what wrappers put before every name; `n_averaged` of an averaged model goes with its wrapper."""
    tensors, prefix, beside = weights.tensors, weights.prefix, weights.beside
    while True:
        named = [name for name in tensors if name != _COUNTER]
        found = next((p for p in PREFIXES if named and all(name.startswith(p) for name in named)), None)
        if found is None:
            break
        if _COUNTER in tensors:
            beside = (*beside, _COUNTER)
        tensors = {name.removeprefix(found): tensors[name] for name in named}
        prefix += found
    return Weights(tensors, weights.source, weights.file, weights.container, prefix, beside, weights.header)

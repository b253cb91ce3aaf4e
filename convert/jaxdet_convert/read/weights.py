"""Reading weights as ``{name: array}``, without torch and without running code from the file.

Supported are checkpoints of ``torch.save`` (zip and legacy) and safetensors, both also in shards with an index,
Darknet's ``.weights``, and mappings of arrays or tensors in memory. The format is recognised by the first bytes of the
file, not by its name.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from jaxdet_convert.read.container import choose
from jaxdet_convert.read.darknet_file import DarknetHeader, DarknetLayer, darknet_tensors, read_darknet
from jaxdet_convert.read.errors import SAVE_LINE, WeightsError, refuse
from jaxdet_convert.read.pickle_file import TensorRef
from jaxdet_convert.read.safetensors_file import find_index, read_safetensors, read_sharded
from jaxdet_convert.read.torch_file import LegacyReader, ZipReader

PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and similar wrappers, and of torch.compile
WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")  # anywhere in a name
COUNTER = "n_averaged"  # of torch's AveragedModel, beside the model's names

_AGAIN = "download or copy it again"
_GIVE = "give a .pth, .pt, .tar, .safetensors, .safetensors.index.json or .weights file"


@dataclass(frozen=True, eq=False)
class Weights:
    """Named tensors and their source.

    Attributes:
        tensors: ``{name: array}``, in the order of the file. Arrays may be read-only, strided, and share memory.
        source: "torch-zip", "torch-legacy", "safetensors", "sharded", "darknet" or "mapping".
        file: the path as given (for a folder, that of its index); "" for a mapping.
        container: the dotted path of the state dict in the file; None if the file is a state dict.
        prefix: the prefix that was removed from all names, such as "module."; may be "".
        wrappers: the parts that were removed from inside of names, such as "_orig_mod.".
        beside: other entries of the file, such as "optimizer" and "epoch".
        header: of Darknet files only.
    """

    tensors: dict[str, np.ndarray]
    source: str
    file: str = ""
    container: str | None = None
    prefix: str = ""
    wrappers: tuple[str, ...] = ()
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
        weights: a path, ``{name: array}``, or the folder of sharded weights with their index.
        container: the dotted path of the entry with the state dict (see `jaxdet_convert.read.container.choose`); by
            default the only one with weights.
        layers: for Darknet files: the convolutions in the order of the file, or a function of the number of values that
            returns them.

    Raises:
        WeightsError: the file cannot be read. The message is one line with the file, the problem, and what to do.
    """
    if isinstance(weights, Mapping):
        state, path, beside = choose(weights, container, "the mapping", lambda value: hasattr(value, "shape"))
        tensors = {name: _to_numpy(name, value) for name, value in state.items()}
        return _without_wrappers(Weights(tensors, "mapping", "", path, beside=beside))
    file = os.fspath(weights)
    if Path(file).is_dir() and (index := find_index(Path(file))) is not None:
        file = str(index)
    kind = _kind(file)
    if kind == "darknet":
        if container is not None:
            raise refuse(file, f"it is a Darknet file, which has no container {container!r}", "leave the container out")
        return _read_darknet(file, layers)
    return _without_wrappers(_read_named(kind, file, container))


def _read_named(kind: str, file: str, container: str | None) -> Weights:
    """The tensors of a file that names them."""
    if kind in ("safetensors", "sharded"):
        named = read_safetensors(file) if kind == "safetensors" else read_sharded(file, _read_shard)
        state, path, beside = choose(named, container, file, lambda value: isinstance(value, np.ndarray))
        return Weights(dict(state), kind, file, path, beside=beside)
    with open(file, "rb") as stream:
        reader = ZipReader(file, stream) if kind == "torch-zip" else LegacyReader(file, stream)
        state, path, beside = choose(reader.root, container, file, lambda value: isinstance(value, TensorRef))
        tensors = {name: reader.tensor(name, ref) for name, ref in state.items()}
    return Weights(tensors, kind, file, path, beside=beside)


def _read_shard(file: str) -> dict[str, np.ndarray]:
    kind = _kind(file)
    if kind in ("darknet", "sharded"):
        raise refuse(file, "it is not a shard of weights", "correct the index that names it")
    return _read_named(kind, file, None).tensors


def _read_darknet(
    file: str, layers: Sequence[DarknetLayer] | Callable[[int], Sequence[DarknetLayer]] | None
) -> Weights:
    header, flat = read_darknet(file)
    if layers is None:
        remedy = "pass its layers as layers="
        raise refuse(file, f"it is a Darknet file with {len(flat)} numbers, which does not describe its layers", remedy)
    try:
        layers = layers(len(flat)) if callable(layers) else layers
        return Weights(darknet_tensors(flat, layers), "darknet", file, header=header)
    except ValueError as error:
        raise WeightsError(f"{file}: {error}") from None


def _kind(file: str) -> str:
    path = Path(file)
    try:
        if path.is_dir():
            raise refuse(file, "it is a directory", f"{_GIVE} in it")
        with path.open("rb") as stream:
            head = stream.read(512)
            size = os.fstat(stream.fileno()).st_size
    except FileNotFoundError as error:
        raise refuse(file, "no such file", "check the path, or download it first") from error
    except OSError as error:
        raise refuse(file, f"it cannot be opened ({error.strerror})", "check the path and its permissions") from error
    if not head:
        raise refuse(file, "it is empty", _AGAIN)
    if head.startswith(b"PK\x03\x04"):
        return "torch-zip"
    if head[0] == 0x80 and (len(head) == 1 or head[1] <= 5):
        return "torch-legacy"
    if head.lstrip().startswith(b"<"):
        raise refuse(file, "it is a web page (HTML), so the download failed", "download it again from a direct link")
    if head.startswith(b"version https://git-lfs"):
        raise refuse(file, "it is a Git LFS pointer, not the file itself", "run `git lfs pull`")
    if head.startswith(b"sys_info\0") and head[257:262] == b"ustar":
        old = (
            f"load it with torch.load(file, weights_only=False) if you trust its author, and save it again: {SAVE_LINE}"
        )
        raise refuse(file, "it is a checkpoint of torch before 0.1.12 (a tar archive)", old)
    if head[257:262] == b"ustar" or head.startswith(b"\x1f\x8b"):
        raise refuse(file, "it is a packed archive (tar or gzip)", "unpack it and give the file inside")
    if head.startswith(b"{") and b"\0" not in head[:8]:  # binary formats have a small number there
        return "sharded"
    if len(head) > 8 and head[8:9] == b"{" and path.suffix != ".weights":
        if struct.unpack("<Q", head[:8])[0] + 8 > size:
            raise refuse(file, "it is a truncated safetensors file", _AGAIN)
        return "safetensors"
    # Darknet files have no magic number, so that the name is used: darknet53.weights, darknet53.conv.74.
    if path.suffix == ".weights" or ".conv." in path.name:
        return "darknet"
    wrong = "it is truncated" if size < 16 else "its format is unknown"
    raise refuse(file, f"{wrong} ({size} bytes, starting with {head[:8].hex(' ')})", f"{_GIVE}, or {_AGAIN}")


def _to_numpy(name: str, value: Any) -> np.ndarray:
    """Converts a value to an array. Torch tensors are copied, because later training may change them."""
    if not hasattr(value, "detach"):
        return np.asarray(value)
    try:
        value = value.detach().cpu()
        if str(value.dtype) != "torch.bfloat16":
            return np.array(value.numpy())
        # torch's numpy() does not support bfloat16, which is the upper half of a float32.
        bits = value.float().numpy().view(np.uint32) >> np.uint32(16)
        return np.asarray(bits, np.uint16).view(ml_dtypes.bfloat16)
    except (TypeError, RuntimeError) as error:  # quantized, sparse, on the meta device
        remedy = "convert it to an ordinary float32 tensor"
        raise refuse("the mapping", f"the tensor {name} cannot be converted to numpy ({error})", remedy) from error


def _without_wrappers(weights: Weights) -> Weights:
    """Removes the parts that wrappers add to names, and the counter ``n_averaged`` of averaged models.

    Raises:
        WeightsError: two names become equal.
    """
    tensors, prefix, beside = weights.tensors, weights.prefix, weights.beside
    while True:
        named = [name for name in tensors if name != COUNTER]
        found = next((p for p in PREFIXES if named and all(name.startswith(p) for name in named)), None)
        if found is None:
            break
        if COUNTER in tensors:
            beside = (*beside, COUNTER)
        tensors = {name.removeprefix(found): tensors[name] for name in named}
        prefix += found
    wrappers = tuple(wrapper for wrapper in WRAPPERS if any(f".{wrapper}" in f".{name}" for name in tensors))
    plain = {without_wrappers(name): tensor for name, tensor in tensors.items()}
    if len(plain) < len(tensors):
        twice, _ = Counter(map(without_wrappers, tensors)).most_common(1)[0]
        raise refuse(
            weights.file or "the mapping",
            f"it contains {twice} both with a wrapper ({', '.join(wrappers)}) and without",
            "save the state dict of only one model",
        )  # fmt: skip
    return replace(weights, tensors=plain, prefix=prefix, wrappers=wrappers, beside=beside)


def without_wrappers(name: str) -> str:
    """A name without the parts that torch.compile, FSDP and activation checkpointing add to it."""
    name = f".{name}"
    for wrapper in WRAPPERS:
        name = name.replace(f".{wrapper}", ".")
    return name[1:]

"""Weights of any source as `{name: array}`, without torch and without running anything of the file's.

Reads checkpoints of `torch.save` (zip and legacy), safetensors, either of them in shards with an index, Darknet's
`.weights`, and mappings of arrays or tensors that are already in memory. What a file is, is told by its first bytes and
not by its name.
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

PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and its like, and of torch.compile
WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")  # anywhere in a name
COUNTER = "n_averaged"  # beside `module.*` in torch's AveragedModel: it counts the averages, not the model's batches

_AGAIN = "download or copy it again"
_GIVE = "give a .pth, .pt, .tar, .safetensors, .safetensors.index.json or .weights file"


@dataclass(frozen=True, eq=False)
class Weights:
    """Named tensors and where they came from.

    Attributes:
        tensors: {name: array}, in the file's order. Arrays may be read-only, strided, and share memory.
        source: "torch-zip", "torch-legacy", "safetensors", "sharded", "darknet" or "mapping".
        file: the path as given, of a folder its index's; "" for a mapping.
        container: the dotted path under which the state dict lay; None where the file itself is one.
        prefix: what was taken off every name, such as "module."; "" where nothing was.
        wrappers: what was taken out of the middle of names, such as "_orig_mod.".
        beside: entries that were left out, such as "optimizer" and "epoch".
        header: of a Darknet file only.
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
        weights: a path, {name: array}, or the folder of sharded weights and their index.
        container: the entry that holds the state dict, as a dotted path (see `read_container.choose`); by default the
            only one that holds weights.
        layers: the convolutions of a Darknet network in the file's order, or what gives them for its count of numbers;
            only such a file needs them.

    Raises:
        WeightsError: one line with the file, what is wrong with it, and what to do.
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
        raise refuse(file, "it is no shard of weights", "correct the index that names it")
    return _read_named(kind, file, None).tensors


def _read_darknet(
    file: str, layers: Sequence[DarknetLayer] | Callable[[int], Sequence[DarknetLayer]] | None
) -> Weights:
    header, flat = read_darknet(file)
    if layers is None:
        remedy = "name its network, or pass layers="
        raise refuse(file, f"its {len(flat)} numbers are of a Darknet network, whose layers it does not name", remedy)
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
    if head.startswith(b"sys_info\0") and head[257:262] == b"ustar":
        old = (
            f"load it with torch.load(file, weights_only=False) if you trust its maker, and save it again: {SAVE_LINE}"
        )
        raise refuse(file, "it is a checkpoint of torch before 0.1.12 (a tar archive)", old)
    if head[257:262] == b"ustar" or head.startswith(b"\x1f\x8b"):
        raise refuse(file, "it is a packed archive (tar or gzip)", "unpack it and give the file inside")
    if head.startswith(b"{") and b"\0" not in head[:8]:  # in binary formats a small number lies there
        return "sharded"
    if len(head) > 8 and head[8:9] == b"{" and path.suffix != ".weights":
        if struct.unpack("<Q", head[:8])[0] + 8 > size:
            raise refuse(file, "it is a safetensors file that is cut short", _AGAIN)
        return "safetensors"
    # Darknet has no magic number, so its name helps: darknet53.weights, darknet53.conv.74.
    if path.suffix == ".weights" or ".conv." in path.name:
        return "darknet"
    wrong = "it is cut short" if size < 16 else "it is no format that is known here"
    raise refuse(file, f"{wrong} ({size} bytes, starting with {head[:8].hex(' ')})", f"{_GIVE}, or {_AGAIN}")


def _to_numpy(name: str, value: Any) -> np.ndarray:
    """A copy where it is a torch tensor: training on must not change what was read."""
    if not hasattr(value, "detach"):
        return np.asarray(value)
    try:
        value = value.detach().cpu()
        if str(value.dtype) != "torch.bfloat16":
            return np.array(value.numpy())
        # numpy's bridge knows no bfloat16: its bits are the upper half of float32's.
        bits = value.float().numpy().view(np.uint32) >> np.uint32(16)
        return np.asarray(bits, np.uint16).view(ml_dtypes.bfloat16)
    except (TypeError, RuntimeError) as error:  # quantized, sparse, on the meta device
        remedy = "convert it to an ordinary float32 tensor"
        raise refuse("the mapping", f"the tensor {name} is none that numpy can hold ({error})", remedy) from error


def _without_wrappers(weights: Weights) -> Weights:
    """Takes off what wrappers put into every name; `n_averaged` of an averaged model goes with its wrapper.

    Raises:
        WeightsError: two names become one.
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
            weights.file or "the mapping", f"it holds {twice} both in a wrapper ({', '.join(wrappers)}) and without",
            "save the state dict of one model alone",
        )  # fmt: skip
    return replace(weights, tensors=plain, prefix=prefix, wrappers=wrappers, beside=beside)


def without_wrappers(name: str) -> str:
    """A name without the parts that torch.compile, FSDP and activation checkpointing put into it."""
    name = f".{name}"
    for wrapper in WRAPPERS:
        name = name.replace(f".{wrapper}", ".")
    return name[1:]

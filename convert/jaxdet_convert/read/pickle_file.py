"""An unpickler for torch checkpoints that does not run code from them.

A pickle is a program that can call any global that it names. Here globals are only looked up in the tables below,
so that nothing is imported, and nothing is called that the file chooses. A tensor becomes a `TensorRef` to a storage,
which is read later if needed. Other values (options, schedules, numpy numbers) become `Inert`.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple, cast

import ml_dtypes
import numpy as np

# Dtypes with a storage class in torch.
STORAGES: dict[str, np.dtype] = {
    "FloatStorage": np.dtype(np.float32),
    "DoubleStorage": np.dtype(np.float64),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
    "ComplexFloatStorage": np.dtype(np.complex64),
    "ComplexDoubleStorage": np.dtype(np.complex128),
}

# Newer dtypes have no storage class: their tensors name the dtype and have an untyped storage.
DTYPES: dict[str, np.dtype] = {
    **{name: np.dtype(name) for name in ("float32", "float64", "float16", "complex64", "complex128")},
    **{name: np.dtype(name) for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")},
    "bool": np.dtype(np.bool_),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e4m3fnuz": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "float8_e5m2fnuz": np.dtype(ml_dtypes.float8_e5m2fnuz),
}

_BESIDE = {
    "argparse": ("Namespace",),
    "collections": ("defaultdict", "Counter", "deque"),
    "builtins": ("set", "frozenset", "complex", "slice", "bytearray"),
    "pathlib": ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"),
    "_codecs": ("encode",),
    "numpy": ("dtype", "ndarray"),
    "numpy.core.multiarray": ("_reconstruct", "scalar"),
    "torch": ("device",),
}
_MOST_REPEATED = 64 << 20  # bytes; limit for tensors that are larger than their storage (expanded ones)
# Python 2 and numpy 2 have other names for the same modules.
_MODULE_NAMES = {"__builtin__": "builtins", "numpy._core.multiarray": "numpy.core.multiarray"}


class Storage(NamedTuple):
    """A part of a storage in the file. ``start`` and ``numel`` count elements; bytes if ``dtype`` is None."""

    key: str
    dtype: np.dtype | None
    numel: int
    start: int = 0


class TensorRef(NamedTuple):
    """A tensor that has not been read. Offset and strides count elements of its storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype


class Inert:
    """A placeholder for a value that is not a tensor. It accepts all operations of the pickle and ignores them."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, item: object) -> None:
        pass

    def extend(self, items: object) -> None:
        pass

    def add(self, item: object) -> None:
        pass


class RefusedGlobal(pickle.UnpicklingError):
    """The pickle names a class or function that is not allowed. ``name``: its dotted name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class _StorageTag(NamedTuple):
    dtype: np.dtype | None


class _Builder:
    """A function for the pickle, which can be called, but not inspected or changed."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function

    def __call__(self, *args: object) -> object:
        return self._function(*args)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("the pickle sets the state of a function")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, dtype: np.dtype | None) -> TensorRef:
    known = isinstance(storage, Storage) and isinstance(shape, tuple) and isinstance(strides, tuple)
    if not known or not isinstance(dtype, np.dtype) or not all(map(_is_count, (offset, *shape, *strides))):
        raise pickle.UnpicklingError("a tensor is described by something other than storage, offset, shape and strides")
    if len(shape) != len(strides) or len(shape) > 32:
        raise pickle.UnpicklingError(f"a tensor has {len(shape)} sizes and {len(strides)} strides")
    return TensorRef(storage, offset, tuple(shape), tuple(strides), dtype)


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: object) -> TensorRef:
    return _tensor(storage, offset, shape, strides, getattr(storage, "dtype", None))


def _rebuild_tensor_v3(
    storage: Any, offset: Any, shape: Any, strides: Any, grad: object, hooks: object, dtype: Any, *_: object
) -> TensorRef:
    return _tensor(storage, offset, shape, strides, dtype)


def _rebuild_parameter(data: Any, *_: object) -> TensorRef:
    if not isinstance(data, TensorRef):
        raise pickle.UnpicklingError("a parameter wraps something other than a tensor")
    return data


def _globals() -> dict[tuple[str, str], object]:
    table: dict[tuple[str, str], object] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch", "Size"): tuple,
        ("torch._utils", "_rebuild_tensor"): _Builder(_rebuild_tensor),
        ("torch._utils", "_rebuild_tensor_v2"): _Builder(_rebuild_tensor),
        ("torch._utils", "_rebuild_tensor_v3"): _Builder(_rebuild_tensor_v3),
        ("torch._utils", "_rebuild_parameter"): _Builder(_rebuild_parameter),
        ("torch._utils", "_rebuild_parameter_with_state"): _Builder(_rebuild_parameter),
    }
    for module in ("torch", "torch.cuda", "torch.storage"):
        table |= {(module, name): _StorageTag(dtype) for name, dtype in STORAGES.items()}
        table[module, "UntypedStorage"] = _StorageTag(None)
    table |= {("torch", name): dtype for name, dtype in DTYPES.items()}
    for module, names in _BESIDE.items():
        table |= {(module, name): Inert for name in names}
    return table


_GLOBALS = _globals()


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes) -> None:
        # latin1 can decode any byte string of Python 2; names of parameters are ASCII.
        super().__init__(io.BytesIO(data), encoding="latin1")
        self.storages: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _GLOBALS[_MODULE_NAMES.get(module, module), name]
        except KeyError:
            raise RefusedGlobal(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Storage:
        # ("storage", class, key, device, number of elements[, view]), view: (key, first element, number of elements).
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise pickle.UnpicklingError("an external reference is not to a storage")
        _, tag, key, _, numel = pid[:5]
        if not isinstance(tag, _StorageTag) or not isinstance(key, str) or not _is_count(numel):
            raise pickle.UnpicklingError("a storage is described by something other than class, key and size")
        self.storages.setdefault(key, 1 if tag.dtype is None else tag.dtype.itemsize)
        view = pid[5] if len(pid) == 6 else None
        if view is None:
            return Storage(key, tag.dtype, numel)
        if not isinstance(view, tuple) or len(view) != 3 or not _is_count(view[1]) or not _is_count(view[2]):
            raise pickle.UnpicklingError("a view of a storage is described by something other than key, start and size")
        if view[1] + view[2] > numel:
            raise pickle.UnpicklingError(f"a view reaches beyond the {numel} elements of its storage")
        return Storage(key, tag.dtype, view[2], view[1])


class Pickle(NamedTuple):
    """A pickle that was scanned but not run: its bytes, and whether it contains an nn.Module."""

    data: bytes
    holds_module: bool

    def load(self) -> tuple[Any, dict[str, int]]:
        """The value, with `TensorRef` for tensors and `Inert` for other objects, and ``{key: bytes per element}`` of
        its storages.

        Raises:
            RefusedGlobal: it names a global that is not allowed.
            Exception: the pickle is damaged; the type depends on the instruction.
        """
        unpickler = _Unpickler(self.data)
        return unpickler.load(), unpickler.storages


class _Rest:
    """The rest of a file. Limits reads to its length, because Python allocates as many bytes as are requested."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.tell, self.readline = file.tell, file.readline
        start = file.tell()
        self._end = file.seek(0, io.SEEK_END)
        file.seek(start)

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, self._end - self._file.tell()))


def scan(file: BinaryIO) -> Pickle:
    """Scans the pickle at the file's position, which is moved after the pickle.

    Raises:
        ValueError: the pickle is damaged, or designed to exhaust memory.
    """
    start = file.tell()
    module_fields = set()
    highest = -1
    for opcode, argument, _ in pickletools.genops(cast(Any, _Rest(file))):
        if opcode.name.startswith("EXT"):
            raise ValueError("it uses the running program's extension registry")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(argument, int):
            highest = max(highest, argument)
        elif argument in ("_parameters", "_buffers", "_modules"):  # attributes of every pickled nn.Module
            module_fields.add(argument)
    end = file.tell()
    # The unpickler allocates memory up to the highest slot, up to 32 GB for a single damaged byte.
    if highest > end - start:
        raise ValueError(f"it names memo slot {highest} in {end - start} bytes")
    file.seek(start)
    return Pickle(file.read(end - start), len(module_fields) == 3)


def materialize(ref: TensorRef, raw: np.ndarray) -> np.ndarray:
    """The tensor as a read-only view of its storage's bytes ``raw [N]`` uint8, with its strides.

    Raises:
        ValueError: the tensor exceeds its storage.
    """
    size = ref.dtype.itemsize
    if 0 in ref.shape:
        return np.empty(ref.shape, ref.dtype)
    last = ref.offset + sum((n - 1) * stride for n, stride in zip(ref.shape, ref.strides, strict=True))
    if (last + 1) * size > len(raw):
        raise ValueError(f"a tensor of shape {ref.shape} ends at element {last} of a storage of {len(raw) // size}")
    if math.prod(ref.shape) * size > max(len(raw), _MOST_REPEATED):
        raise ValueError(f"a tensor of shape {ref.shape} repeats the {len(raw)} bytes of its storage")
    # The constructor checks these bounds again.
    return np.ndarray(ref.shape, ref.dtype, raw.data, ref.offset * size, [stride * size for stride in ref.strides])

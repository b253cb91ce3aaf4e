"""Imports torchvision with its native operators, even if it is built for CUDA and PyTorch for the CPU.

Some package indices only have torchvision for CUDA. With a CPU build of PyTorch, its extension requires CUDA libraries
that do not exist, so that the operators are not registered and the import fails. The wheel contains one of the
libraries, the CUDA runtime, in a separate folder. CPU operators do not call functions of the others, and the loader
resolves functions when they are first called. It only requires libraries with these names and the single variable among
their symbols, so that empty libraries, which this module builds with the C compiler, are sufficient. Observed with
torch 2.13.0+cpu and torchvision 0.28.0 on Linux x86-64.
"""

from __future__ import annotations

import _ctypes
import ctypes
import importlib
import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from os import RTLD_LAZY
from pathlib import Path
from types import ModuleType

# c10::cuda::CUDACachingAllocator::allocator, a variable, which is resolved at load time.
VARIABLE = "_ZN3c104cuda20CUDACachingAllocator9allocatorE"
MISSING = ("libc10_cuda.so", "libtorch_cuda.so")


@cache
def import_torchvision() -> ModuleType:
    """Imports torchvision with its operators registered.

    Raises:
      ImportError: torch or torchvision is missing, or their builds are incompatible.
    """
    torch = importlib.import_module("torch")
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise ImportError("torchvision is not installed")
    extension = Path(spec.origin).parent / "_C.so"
    if _loads(extension):
        torchvision = importlib.import_module("torchvision")
    else:
        _load_cuda_substitutes(extension)
        with _lazy_loading(torch, extension):
            torchvision = importlib.import_module("torchvision")
    if not torchvision.extension._has_ops():
        raise ImportError(f"torchvision {torchvision.__version__} did not register its operators")
    return torchvision


def _loads(library: Path) -> bool:
    try:
        ctypes.CDLL(str(library))
    except OSError:
        return False
    return True


def _load_cuda_substitutes(extension: Path) -> None:
    """Loads the CUDA libraries that ``extension`` requires: the bundled runtime, and empty ones for the others."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise ImportError(
            "torchvision is built for CUDA and torch for the CPU; using them together needs a C compiler (cc or gcc)"
        )
    with tempfile.TemporaryDirectory() as folder:  # a loaded library stays loaded without its file
        for runtime in (extension.parents[1] / "torchvision.libs").glob("libcudart*.so.*"):
            ctypes.CDLL(str(runtime), mode=ctypes.RTLD_GLOBAL)
        source = Path(folder, "empty.c")
        source.write_text(f"void *{VARIABLE}[64];\n")
        for name in MISSING:
            library = Path(folder, name)
            command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(library), str(source)]
            built = subprocess.run(command, capture_output=True, text=True)
            if built.returncode:
                raise ImportError(f"could not build a substitute for {name}: {built.stderr.strip()}")
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


@contextmanager
def _lazy_loading(torch: ModuleType, extension: Path) -> Iterator[None]:
    """Makes PyTorch load ``extension`` without resolving all of its functions, which ctypes does by default."""
    load_library = torch.ops.load_library

    def load(path: str) -> None:
        if Path(path) == extension:
            _ctypes.dlopen(path, RTLD_LAZY)
        else:
            load_library(path)

    torch.ops.load_library = load
    try:
        yield
    finally:
        torch.ops.load_library = load_library

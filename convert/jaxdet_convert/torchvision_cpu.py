"""torchvision with its native operators, also where its wheel was built for CUDA and PyTorch for the CPU.

The package index may offer torchvision for CUDA only. Beside a CPU build of PyTorch its extension asks the loader for
CUDA libraries that are not there, its operators stay unregistered and the import fails. The wheel brings one of them,
the CUDA runtime, in a folder of its own. No CPU operator calls into the others, and the loader looks functions up when
they are first called; it insists only on the libraries' names and on the one variable among the symbols. Empty
libraries of those names, made here with the C compiler, satisfy it. Seen with torch 2.13.0+cpu and torchvision 0.28.0
on Linux x86-64.
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

# c10::cuda::CUDACachingAllocator::allocator, a variable: looked up at load time.
VARIABLE = "_ZN3c104cuda20CUDACachingAllocator9allocatorE"
MISSING = ("libc10_cuda.so", "libtorch_cuda.so")


@cache
def import_torchvision() -> ModuleType:
    """torchvision, with its operators registered.

    Raises:
      ImportError: torch or torchvision is missing, or their builds do not fit and could not be made to.
    """
    torch = importlib.import_module("torch")
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise ImportError("torchvision is not installed")
    extension = Path(spec.origin).parent / "_C.so"
    if _loads(extension):
        torchvision = importlib.import_module("torchvision")
    else:
        _stand_in_for_cuda(extension)
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


def _stand_in_for_cuda(extension: Path) -> None:
    """Load what ``extension`` needs of CUDA: the bundled runtime, and an empty library for each of the others."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise ImportError("torchvision is built for CUDA and torch for the CPU; bridging them takes a C compiler")
    with tempfile.TemporaryDirectory() as folder:  # a loaded library survives its file
        for runtime in (extension.parents[1] / "torchvision.libs").glob("libcudart*.so.*"):
            ctypes.CDLL(str(runtime), mode=ctypes.RTLD_GLOBAL)
        source = Path(folder, "empty.c")
        source.write_text(f"void *{VARIABLE}[64];\n")
        for name in MISSING:
            library = Path(folder, name)
            command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(library), str(source)]
            built = subprocess.run(command, capture_output=True, text=True)
            if built.returncode:
                raise ImportError(f"could not build a stand-in for {name}: {built.stderr.strip()}")
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


@contextmanager
def _lazy_loading(torch: ModuleType, extension: Path) -> Iterator[None]:
    """Have PyTorch load ``extension`` without looking up all of its functions, as ctypes otherwise would."""
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

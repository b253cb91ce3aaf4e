"""Settings for all tests: strict JAX, a compilation cache, and the folder of optional files."""

from __future__ import annotations

import gc
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before JAX: XLA prints long warnings for programs from the cache

import jax
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(ROOT / ".jax_cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # reading is faster than compiling

SHARED = ROOT.parent / "shared"
MEMORY = 2.5  # GB; above it, a worker clears its compiled programs


@pytest.fixture(scope="module", autouse=True)
def clear_programs() -> Iterator[None]:
    """Clears compiled programs in memory, which would otherwise grow to 8 GB per worker. The cache on disk is kept."""
    yield
    if _gigabytes() > MEMORY:
        jax.clear_caches()
        gc.collect()


def _gigabytes() -> float:
    """The memory of this process, or its maximum so far if the system does not report the current value."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e9
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9  # in bytes on systems without /proc


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images and weights next to the checkout. Tests that need it are skipped without it."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} does not exist: this test needs its files")
    return SHARED

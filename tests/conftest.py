"""Shared by all tests: strict JAX, a compilation cache, and where the optional files lie."""

from __future__ import annotations

import gc
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before JAX: the warm cache warns at length otherwise

import jax
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(ROOT / ".jax_cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # a small program reads faster than it compiles

SHARED = ROOT.parent / "shared"
MEMORY = 2.5  # GB that a worker may hold


@pytest.fixture(scope="module", autouse=True)
def forget_programs() -> Iterator[None]:
    """Without it a worker grows to 8 GB. The cache on disk stays."""
    yield
    if _gigabytes() > MEMORY:
        jax.clear_caches()
        gc.collect()


def _gigabytes() -> float:
    """Memory that this process holds; where the system does not say, what it held at most."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e9
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9  # in bytes where there is no /proc


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images and weights beside the checkout; a test that needs it skips without it."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent: this test needs the real files that lie there")
    return SHARED

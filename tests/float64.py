"""The environment of a process that computes in float64, as ``jax_enable_x64`` applies to a whole process.

In float64, rounding is far below every tolerance, whether XLA optimises or not. So `make test` sets FLOAT64_XLA_FLAGS,
with which programs that run once compile in a fraction of the time. Twenty train steps take longer without optimisation
than is gained.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import jax

FLAGS = ("jax_numpy_rank_promotion", "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


def float64_environment(*folders: Path, run_once: bool = True) -> dict[str, str]:
    """The environment of this process with float64 enabled, and with these folders in its PYTHONPATH."""
    flags = (os.environ.get(name, "") for name in ("XLA_FLAGS", *(["FLOAT64_XLA_FLAGS"] if run_once else [])))
    return os.environ | {
        **{name.upper(): str(getattr(jax.config, name)) for name in FLAGS},
        "JAX_ENABLE_X64": "1",
        "XLA_FLAGS": " ".join(filter(None, flags)),  # a blank would be the name of a file with flags
        "PYTHONPATH": os.pathsep.join([*map(str, folders), *sys.path]),
    }

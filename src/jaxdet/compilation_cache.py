"""JAX's persistent compilation cache, from which later processes load compiled programs."""

from __future__ import annotations

import os
import sys


def set_cache_variables(folder: str | os.PathLike[str] | None = None) -> str:
    """Sets the environment variables of JAX's compilation cache, and returns its folder. Call it before importing JAX.

    Variables that are already set keep their values.

    Args:
        folder: by default ``compiled`` in ``$JAXDET_CACHE``, or in ``~/.cache/jaxdet``.
    """
    if folder is None:
        folder = os.path.join(os.environ.get("JAXDET_CACHE", os.path.expanduser("~/.cache/jaxdet")), "compiled")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA prints long warnings for programs from the cache
    return os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.fspath(folder))


def enable_compilation_cache(folder: str | os.PathLike[str] | None = None) -> str:
    """Caches compiled programs on disk, as the ``jaxdet`` command does, and returns the cache's folder.

    Call it before importing JAX. Afterwards it also works, but XLA prints warnings for programs from the cache. If JAX
    already has a cache, nothing is changed.

    Args:
        folder: by default ``compiled`` in ``$JAXDET_CACHE``, or in ``~/.cache/jaxdet``.
    """
    imported = "jax" in sys.modules
    if imported:
        import jax

        configured: str | None = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
        if configured is not None:
            return configured
    chosen = set_cache_variables(folder)
    if imported:
        from jax.experimental.compilation_cache import compilation_cache

        jax.config.update("jax_compilation_cache_dir", chosen)
        jax.config.update(
            "jax_persistent_cache_min_compile_time_secs",
            float(os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"]),
        )
        compilation_cache.reset_cache()  # JAX reads the setting only at its first compilation
    return chosen

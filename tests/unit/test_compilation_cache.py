"""The compilation cache as Python code asks for it, in processes of their own: JAX reads its settings once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ENABLE = "print(jaxdet.enable_compilation_cache())"
COMPILE = "jax.jit(lambda x: jax.numpy.linalg.svd(x @ x.T))(jax.numpy.ones((7, 7)))"
SCRIPTS = {
    "before JAX": f"{ENABLE}; import jax; {COMPILE}",
    "after JAX": f"import jax; {ENABLE}; {COMPILE}",
    "after a compilation": f"import jax; jax.jit(lambda x: x + 1)(1); {ENABLE}; {COMPILE}",
}


def run(script, **variables):
    names = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, "-c", f"import jaxdet; {script}"]
    done = subprocess.run(command, env=environment | variables, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("name", SCRIPTS)
def test_programs_are_kept(name, tmp_path):
    folder = tmp_path / "cache" / "compiled"
    shown = run(SCRIPTS[name], JAXDET_CACHE=str(tmp_path / "cache"), JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0")
    assert shown == str(folder)
    assert any(folder.iterdir())


def test_a_cache_that_jax_has_is_left(tmp_path):
    own = str(tmp_path / "own")
    script = f"import jax; jax.config.update('jax_compilation_cache_dir', {own!r}); {ENABLE}"
    assert run(script) == own
    assert run("print(jaxdet.enable_compilation_cache('elsewhere'))", JAX_COMPILATION_CACHE_DIR=own) == own

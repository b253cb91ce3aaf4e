"""The TPU's compiler, on a machine without a TPU."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
from jax.experimental import topologies
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh

from jaxdet.parallel import data_mesh
from jaxdet.planning.chips import Topology

# libtpu asks the machine that it is on what that is, unless it is told: any answer will do, as nothing runs.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # it would hold a lock on TPUs that are not there
}
_UNITS = {"B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class DoesNotFit(ValueError):
    """A program needs more memory than a device has.

    Attributes:
        needed, limit: bytes, or None where the compiler did not say.
    """

    def __init__(self, message: str, needed: float | None, limit: float | None) -> None:
        super().__init__(message)
        self.needed, self.limit = needed, limit


@dataclass(frozen=True)
class Compiled:
    """A program as the TPU's compiler made it: the figures are of one device.

    arguments, outputs, temporaries, aliased: bytes of its memory; aliased are arguments that outputs take the place of.
    flops, bytes: its operations and what it reads and writes of the memory, each loop's body counted once.
    text: its HLO after all passes.
    seconds: how long compiling took.
    """

    arguments: int
    outputs: int
    temporaries: int
    aliased: int
    flops: float
    bytes: float
    text: str
    seconds: float

    @property
    def needed(self) -> int:
        """Bytes of memory while it runs."""
        return self.arguments + self.outputs + self.temporaries - self.aliased


def pod_mesh(topology: Topology) -> Mesh:
    """The mesh of a pod's devices, which are there for the compiler alone.

    Raises:
        ValueError: libtpu is not installed, or it does not know this topology.
    """
    try:
        with _environment():
            described = topologies.get_topology_desc(
                platform="tpu",
                topology_name=topology.name,
                chip_config_name=topology.chip.core,
                chips_per_host_bounds=topology.chips_of_a_host,
            )
    except Exception as error:  # of several kinds, by what is missing
        if "TPU support not installed" in str(error):
            raise ValueError(
                "libtpu, which brings the TPU's compiler, is not installed: pip install 'jaxdet[plan]'"
            ) from None
        raise ValueError(f"libtpu does not take {topology.name}: {_first_line(error)}") from None
    if len(described.devices) != topology.chips:
        raise ValueError(
            f"libtpu makes {len(described.devices)} devices of the {topology.chips} chips of {topology.name}, "
            "and a plan takes each chip for one"
        )
    return data_mesh(described.devices)


def compile_traced(traced: Any) -> Compiled:
    """Compiles what ``jax.jit(...).trace(...)`` gave for the devices of a `pod_mesh`.

    Raises:
        DoesNotFit: it needs more memory than a device has.
    """
    start = time.perf_counter()
    try:
        with _without_cache():
            compiled = traced.lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error) and "Ran out of memory" not in str(error):
            raise
        raise _does_not_fit(str(error)) from None
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    return Compiled(
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        aliased=memory.alias_size_in_bytes,
        flops=cost["flops"],
        bytes=cost["bytes accessed"],
        text=compiled.as_text(),
        seconds=time.perf_counter() - start,
    )


@contextmanager
def _environment() -> Iterator[None]:
    """What libtpu wants to find when it is loaded; left there, other code would take this for a host of a pod."""
    missing = _ENVIRONMENT.keys() - os.environ.keys()
    os.environ.update({name: _ENVIRONMENT[name] for name in missing})
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]


@contextmanager
def _without_cache() -> Iterator[None]:
    """JAX writes what it compiled for devices that are not there to its persistent cache, but cannot read it again."""
    used = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    try:
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()  # JAX looks at the setting once
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", used)
        compilation_cache.reset_cache()


def _does_not_fit(message: str) -> DoesNotFit:
    used = re.search(r"Used ([\d.]+)([BKMGT]?) of ([\d.]+)([BKMGT]?) hbm", message)
    if used is None:
        return DoesNotFit(f"it does not fit: {_first_line(message)}", None, None)
    needed, limit = (float(used[i]) * _UNITS[used[i + 1] or "B"] for i in (1, 3))
    return DoesNotFit(f"it needs {needed / 1e9:.2f} GB, and a program may have {limit / 1e9:.2f} GB", needed, limit)


def _first_line(error: object) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]

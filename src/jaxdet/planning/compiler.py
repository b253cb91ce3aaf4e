"""The TPU compiler on a machine without a TPU."""

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

# libtpu queries the machine for its TPUs unless these are set. Any values will do, because nothing is run.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # otherwise libtpu locks the TPUs, which do not exist
}
_UNITS = {"B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class DoesNotFit(ValueError):
    """A program needs more memory than a device has.

    Attributes:
        needed, limit: bytes, or None if the compiler does not report them.
    """

    def __init__(self, message: str, needed: float | None, limit: float | None) -> None:
        super().__init__(message)
        self.needed, self.limit = needed, limit


@dataclass(frozen=True)
class Compiled:
    """A compiled program and the compiler's figures for one device.

    arguments, outputs, temporaries: bytes of memory.
    aliased: bytes of the outputs that reuse the memory of donated arguments.
    flops, bytes: operations and bytes accessed; the body of a loop is counted once.
    text: the optimised HLO.
    seconds: the time of the compilation.
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
        """Bytes of memory that the program needs."""
        return self.arguments + self.outputs + self.temporaries - self.aliased


def pod_mesh(topology: Topology) -> Mesh:
    """The mesh of a pod's devices, which exist only for the compiler.

    Raises:
        ValueError: libtpu is not installed, or does not support the topology.
    """
    try:
        with _environment():
            described = topologies.get_topology_desc(
                platform="tpu",
                topology_name=topology.name,
                chip_config_name=topology.chip.core,
                chips_per_host_bounds=topology.host_bounds,
            )
    except Exception as error:  # libtpu raises several types
        if "TPU support not installed" in str(error):
            raise ValueError(
                "libtpu, which has the TPU compiler, is not installed: pip install 'jaxdet[plan]'"
            ) from None
        raise ValueError(f"libtpu does not support {topology.name}: {_first_line(error)}") from None
    if len(described.devices) != topology.chips:
        raise ValueError(
            f"libtpu makes {len(described.devices)} devices of the {topology.chips} chips of {topology.name}, "
            "but a plan needs one device per chip"
        )
    return data_mesh(described.devices)


def compile_traced(traced: Any) -> Compiled:
    """Compiles the result of ``jax.jit(...).trace(...)`` for the devices of a `pod_mesh`.

    Raises:
        DoesNotFit: the program needs more memory than a device has.
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
    """Sets the variables while libtpu is loaded. Afterwards, other code would take this machine for a host of a pod."""
    missing = _ENVIRONMENT.keys() - os.environ.keys()
    os.environ.update({name: _ENVIRONMENT[name] for name in missing})
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]


@contextmanager
def _without_cache() -> Iterator[None]:
    """Disables JAX's persistent cache, which cannot read programs for devices that do not exist."""
    enabled = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    try:
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()  # JAX reads the setting only once
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", enabled)
        compilation_cache.reset_cache()


def _does_not_fit(message: str) -> DoesNotFit:
    used = re.search(r"Used ([\d.]+)([BKMGT]?) of ([\d.]+)([BKMGT]?) hbm", message)
    if used is None:
        return DoesNotFit(f"it does not fit: {_first_line(message)}", None, None)
    needed, limit = (float(used[i]) * _UNITS[used[i + 1] or "B"] for i in (1, 3))
    return DoesNotFit(f"it needs {needed / 1e9:.2f} GB, but {limit / 1e9:.2f} GB are available", needed, limit)


def _first_line(error: object) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]

"""The mesh of devices, and work that stays on the device of its image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

DATA = "data"


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A one-axis mesh over the devices: a batch is split along it, parameters are copied.

    By default all devices of all processes, those of a process side by side, so that its rows of a batch are, too.
    """
    if devices is None:
        devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.asarray(devices), (DATA,))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """How arrays with a leading batch axis lie on the mesh."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def replicated(mesh: Mesh) -> NamedSharding:
    """How parameters lie on the mesh."""
    return NamedSharding(mesh, PartitionSpec())


def over_images(function: Callable[..., Any], mesh: Mesh | None) -> Callable[..., Any]:
    """``function`` of arrays with a leading batch axis, run on each device for its own images without communication.

    An NMS loop under the partitioner would otherwise all-reduce its predicate at every turn, and a gather over
    images would collect every feature. With one device, or no mesh, it is the function itself.
    """
    if mesh is None or mesh.size == 1:
        return function
    spec = PartitionSpec(DATA)
    return jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)

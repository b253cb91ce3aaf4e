"""The mesh of devices, its shardings, and computations without communication between devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

DATA = "data"


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with one axis over the devices. Batches are split along it, and parameters are replicated.

    By default, it has all devices of all processes. The devices of a process are adjacent, so that its rows of a batch
    are contiguous.
    """
    if devices is None:
        devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.asarray(devices), (DATA,))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of arrays with a leading batch axis."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of parameters."""
    return NamedSharding(mesh, PartitionSpec())


def over_images(function: Callable[..., Any], mesh: Mesh | None) -> Callable[..., Any]:
    """Runs ``function``, of arrays with a leading batch axis, on each device for its own images, without communication.

    Otherwise, XLA's partitioner would all-reduce the predicate of an NMS loop in every iteration, and all-gather the
    features for a gather over images. With one device, or no mesh, the function is returned unchanged.
    """
    if mesh is None or mesh.size == 1:
        return function
    spec = PartitionSpec(DATA)
    return jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)

"""Arrays over a mesh whose devices may belong to several processes: from what each process has, and back.

A batch is split by rows over the mesh. A process holds the rows of its own devices, one after the other.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh

from jaxdet.parallel.hosts import many
from jaxdet.parallel.mesh import batch_sharding, replicated

Tree = TypeVar("Tree")


def check_division(name: str, batch_size: int, mesh: Mesh | None) -> None:
    """Raises ValueError if the devices of a mesh cannot share a batch, saying which sizes are nearest."""
    devices = 1 if mesh is None else mesh.size
    if batch_size % devices:
        below, above = batch_size // devices * devices, -(-batch_size // devices) * devices
        near = " or ".join(str(size) for size in (below, above) if size)
        raise ValueError(f"{name}={batch_size} does not divide over {devices} devices; take {near}")


def local_rows(batch_size: int, mesh: Mesh | None) -> slice:
    """Which rows of a batch this process holds; all of them where it works alone.

    Raises:
        ValueError: the mesh's order of devices scatters them; `jaxdet.parallel.data_mesh` has one that does not.
    """
    if mesh is None or not many():
        return slice(0, batch_size)
    own = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    spans = sorted(index[0].indices(batch_size)[:2] for index in own if index is not None)
    if any(stop != start for (_, stop), (start, _) in pairwise(spans)):
        raise ValueError("the mesh scatters this process's devices; make it with jaxdet.parallel.data_mesh")
    return slice(spans[0][0], spans[-1][1])


def split(local: Tree, batch_size: int, mesh: Mesh | None) -> Tree:
    """A tree of global arrays ``[batch_size, ...]`` over the mesh, of the rows ``[b, ...]`` that each process holds.

    With a single device it is the tree itself.
    """
    if mesh is None or mesh.size == 1:
        return local
    sharding = batch_sharding(mesh)
    if not many():
        return jax.device_put(local, sharding)

    def assemble(rows: Any) -> jax.Array:
        return jax.make_array_from_process_local_data(sharding, rows, (batch_size, *rows.shape[1:]))

    return jax.tree.map(assemble, local)


def copy_to(tree: Tree, mesh: Mesh) -> Tree:
    """A tree of arrays, the same in every process, on every device of the mesh."""
    sharding = replicated(mesh)
    if not many():
        return jax.device_put(tree, sharding)

    def copy(leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        value = np.asarray(leaf)
        return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

    return jax.tree.map(copy, tree)


def fetch_rows(tree: Tree, rows: slice) -> Tree:
    """Those rows of arrays split over a mesh as numpy arrays ``[b, ...]``; this process has to hold them."""

    def fetch(leaf: jax.Array) -> np.ndarray:
        if leaf.is_fully_addressable:
            return np.asarray(leaf)[rows]
        found = np.empty((rows.stop - rows.start, *leaf.shape[1:]), leaf.dtype)
        for shard in leaf.addressable_shards:
            start = shard.index[0].start or 0
            value = np.asarray(shard.data)
            first, last = max(rows.start, start), min(rows.stop, start + len(value))
            if first < last:
                found[first - rows.start : last - rows.start] = value[first - start : last - start]
        return found

    return jax.tree.map(fetch, tree)

"""Conversion between the arrays of each process and global arrays over a mesh of one or several processes.

A batch is split by rows over the mesh. The rows of a process, those of its devices, are contiguous.
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
    """Raises ValueError if a batch does not divide over the devices of a mesh. The message has the nearest sizes."""
    devices = 1 if mesh is None else mesh.size
    if batch_size % devices:
        below, above = batch_size // devices * devices, -(-batch_size // devices) * devices
        near = " or ".join(str(size) for size in (below, above) if size)
        raise ValueError(f"{name}={batch_size} does not divide over {devices} devices; take {near}")


def local_rows(batch_size: int, mesh: Mesh | None) -> slice:
    """The rows of a batch that this process holds; all rows if it is the only one.

    Raises:
        ValueError: they are not contiguous, because of the order of devices in the mesh. Those of
            `jaxdet.parallel.data_mesh` are.
    """
    if mesh is None or not many():
        return slice(0, batch_size)
    indices = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    spans = sorted(index[0].indices(batch_size)[:2] for index in indices if index is not None)
    if any(stop != start for (_, stop), (start, _) in pairwise(spans)):
        raise ValueError("the devices of this process are not contiguous in the mesh; use jaxdet.parallel.data_mesh")
    return slice(spans[0][0], spans[-1][1])


def split(local: Tree, batch_size: int, mesh: Mesh | None) -> Tree:
    """Assembles global arrays ``[batch_size, ...]`` over the mesh from the rows ``[b, ...]`` of each process.

    With one device, or no mesh, the tree is returned unchanged.
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
    """Copies a tree of arrays, which must be the same in every process, to every device of the mesh."""
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
    """Rows of arrays that are split over a mesh, as numpy arrays ``[b, ...]``. This process must hold them."""

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

"""Data parallelism: a mesh with one axis over the devices of all processes, and communication between processes."""

from jaxdet.parallel.arrays import check_division as check_division
from jaxdet.parallel.arrays import copy_to as copy_to
from jaxdet.parallel.arrays import fetch_rows as fetch_rows
from jaxdet.parallel.arrays import local_rows as local_rows
from jaxdet.parallel.arrays import split as split
from jaxdet.parallel.hosts import HEARTBEAT_SECONDS as HEARTBEAT_SECONDS
from jaxdet.parallel.hosts import barrier as barrier
from jaxdet.parallel.hosts import gather as gather
from jaxdet.parallel.hosts import gather_arrays as gather_arrays
from jaxdet.parallel.hosts import host_names as host_names
from jaxdet.parallel.hosts import initialize as initialize
from jaxdet.parallel.hosts import is_first as is_first
from jaxdet.parallel.hosts import many as many
from jaxdet.parallel.hosts import on_first as on_first
from jaxdet.parallel.hosts import process_count as process_count
from jaxdet.parallel.hosts import process_index as process_index
from jaxdet.parallel.mesh import batch_sharding as batch_sharding
from jaxdet.parallel.mesh import data_mesh as data_mesh
from jaxdet.parallel.mesh import over_images as over_images
from jaxdet.parallel.mesh import replicated as replicated

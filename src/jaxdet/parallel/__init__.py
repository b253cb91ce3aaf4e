"""One mesh with a data axis."""

from jaxdet.parallel.mesh import batch_sharding as batch_sharding
from jaxdet.parallel.mesh import data_mesh as data_mesh
from jaxdet.parallel.mesh import over_images as over_images
from jaxdet.parallel.mesh import replicated as replicated

"""Compiled by the TPU's own compiler, on a machine without one: each operation takes its platform's algorithm.

Needs libtpu (``pip install jaxdet[tpu]``). The lowered programs are read without it in test_nms.py, test_roi_align.py.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

SCRIPT = """
import jax, jax.numpy as jnp, numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxdet.ops import roi_align
from jaxdet.ops.suppression.hard import nms_keep

topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")
sharding = NamedSharding(Mesh(np.array(topology.devices[:1]), ("data",)), PartitionSpec())


def compiled(function, *shapes):
    arguments = [jax.ShapeDtypeStruct(shape, dtype, sharding=sharding) for shape, dtype in shapes]
    return jax.jit(function).lower(*arguments).compile().as_text()


pooled = compiled(lambda f, b: roi_align(f, b, 7, 0.25), ((64, 64, 128), "float32"), ((32, 4), "float32"))
assert "dynamic-slice" in pooled and "convolution" in pooled, "RoIAlign: windows and products"
kept = compiled(lambda b, v: nms_keep(b, 0.7, valid=v), ((2, 5, 1000, 4), "float32"), ((2, 5, 1000), "bool"))
assert "convolution" in kept and "bf16" in kept, "NMS: a product on the matrix unit"
"""


@pytest.mark.verify
def test_the_tpu_compiler_sees_the_tpu_algorithms():
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed: pip install jaxdet[tpu] brings the TPU's compiler")
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": "v5litepod-4",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    run = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr

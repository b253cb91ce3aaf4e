"""What the TPU's own compiler makes of the steps, read off the text of a small one. Needs libtpu, not a TPU."""

from __future__ import annotations

import importlib.util
import math

import jax
import jax.numpy as jnp
import pytest
from tiny_job import tiny_job

from jaxdet.ops import roi_align
from jaxdet.parallel import batch_sharding, replicated
from jaxdet.planning import DoesNotFit, compile_traced, parse_topology, pod_mesh, read_program, train_step
from jaxdet.planning.programs import step_work

pytestmark = [
    pytest.mark.verify,  # a minute of compiling
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None,
        reason="libtpu is not installed: pip install 'jaxdet[plan]' brings the TPU's compiler",
    ),
]
SMALL = 20_000  # bytes: more than any batch statistic of the tiny model, less than its gradient


@pytest.fixture(scope="module")
def compiled():
    return compile_traced(train_step(tiny_job(batch=1), pod_mesh(parse_topology("v5e:2x2"))))


@pytest.fixture(scope="module")
def program(compiled):
    return read_program(compiled.text)


def test_the_gradient_is_all_that_travels(program):
    large = [one for one in program.collectives if one.bytes > SMALL]
    assert [one.kind for one in large] == ["all-reduce"], large
    assert len(large[0].arrays) > 50, "one array a parameter"
    assert {one.kind for one in program.collectives} == {"all-reduce"}, "and batch statistics, losses, counts"


def test_no_loop_waits_for_other_chips(program):
    assert program.loops and not [one for one in program.collectives if one.in_loop]


def test_products_of_the_layers_are_bfloat16(program):
    wide = [one for one in program.products if any(shape.dtype == "f32" for shape in one.operands)]
    assert wide and all("roi_align" in one.scope for one in wide), wide
    assert len(program.products) > 3 * 40, "forward, kernels' and inputs' gradients of each layer"


def test_figures(compiled):
    work, _ = step_work(tiny_job(batch=1))
    assert compiled.flops > 1.9 * work.macs
    assert 0 < compiled.aliased <= compiled.arguments and compiled.bytes > compiled.needed
    assert compiled.needed == compiled.arguments + compiled.outputs + compiled.temporaries - compiled.aliased


def test_the_gradient_of_roi_align_adds_in_place():
    # On its way through a `cond` the canvas was copied twice for every window: seconds a step, in a loop that the
    # compiler's own count of bytes looks at once.
    place = replicated(pod_mesh(parse_topology("v5e:1x1")))

    def shape(*sides, dtype=jnp.float32):
        return jax.ShapeDtypeStruct(sides, dtype, sharding=place)

    def gradient(map_, boxes, grad):
        _, pull = jax.vjp(lambda map_: roi_align(map_, boxes, 7, 0.25), map_)
        return pull(grad)

    traced = jax.jit(gradient).trace(shape(64, 80, 128), shape(128, 4), shape(128, 7, 7, 128))
    program = read_program(compile_traced(traced).text)
    assert {(loop.trips, loop.in_loop) for loop in program.loops} == {(16, False), (None, False)}, (
        "chunks, and long ones"
    )
    assert not [copy for copy in program.copies if copy.in_loop and math.prod(copy.shape.sides) == 64 * 80 * 128]


def test_roi_align_reads_each_map_once():
    # Of many images, too: their canvas is in the core's memory, one after another. Windows cut out of a batch's canvas
    # in the chip's memory were 30 times this.
    place = replicated(pod_mesh(parse_topology("v5e:1x1")))
    maps = jax.ShapeDtypeStruct((4, 64, 80, 256), jnp.bfloat16, sharding=place)
    boxes = jax.ShapeDtypeStruct((4, 256, 4), jnp.float32, sharding=place)
    pool = jax.jit(jax.vmap(lambda map_, boxes: roi_align(map_, boxes, 7, 0.25)))
    program = read_program(compile_traced(pool.trace(maps, boxes)).text)
    inputs, outputs = 2 * math.prod(maps.shape), 2 * 4 * 256 * 7 * 7 * 256
    assert program.traffic < inputs + 3 * outputs  # which are written to the chip's memory, sorted, and stacked


@pytest.mark.parametrize("name", ["v4:4x4x4", "v5e:16x16", "v5p:8x8x8", "v6e:16x16", "v5e:1x1"])
def test_a_chip_is_a_device(name):
    topology = parse_topology(name)
    assert pod_mesh(topology).size == topology.chips  # also where it has two cores


def test_a_program_that_does_not_fit():
    mesh = pod_mesh(parse_topology("v5e:2x2"))
    x = jax.ShapeDtypeStruct((4 * 3000, 1 << 20), jnp.float32, sharding=batch_sharding(mesh))  # 12.6 GB a chip
    with pytest.raises(DoesNotFit, match=r"it needs 2\d\.\d\d GB, but 16\.91 GB are available") as raised:
        compile_traced(jax.jit(lambda x: x + 1).trace(x))
    assert raised.value.needed > raised.value.limit

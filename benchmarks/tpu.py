"""Bytes, FLOPs, temporaries and cycles of parts of a step on one v5e chip, by the TPU's compiler. It needs no TPU.

    python -m benchmarks.tpu [--images N] [--train]

RoIAlign pools from P2 to P5 of 800x1344 in bfloat16. Selection is the RPN's, from the logits of all anchors to
proposals after NMS. ``--train`` adds the whole train step of fasterrcnn_resnet50_fpn, which takes minutes to compile.
Bytes and FLOPs are the compiler's: the body of a loop counts once, and bytes include the core's own memory. Traffic is
that of the chip's memory only (`jaxdet.planning.traffic`); it and the compiler's cycles count every iteration of loops
whose number of iterations is known. Needs libtpu: pip install 'jaxdet[plan]'.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX is imported: only the compiler uses libtpu

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.sharding import Mesh

from jaxdet.heads.proposals import select_proposals
from jaxdet.models import FasterRCNN, abstract, detector_config
from jaxdet.nn import Numerics
from jaxdet.ops import multiscale_roi_align
from jaxdet.parallel import replicated
from jaxdet.planning import Job, compile_traced, parse_topology, pod_mesh, read_program, train_step
from jaxdet.planning.programs import step_work
from jaxdet.runs import read_config
from jaxdet.types import Images

NAME, CANVAS = "fasterrcnn_resnet50_fpn", (800, 1344)
SCALES = (1 / 4, 1 / 8, 1 / 16, 1 / 32)
CHANNELS, SIDE = 256, 7


def roi_align(images: int, count: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Pooling of ``count`` regions per image, and the shapes of its arguments."""
    maps = [_shape((images, round(CANVAS[0] * s), round(CANVAS[1] * s), CHANNELS), jnp.bfloat16) for s in SCALES]

    def pool(maps: list[Array], boxes: Array, levels: Array) -> Array:
        return jax.vmap(lambda *one: multiscale_roi_align(*one, SIDE, SCALES, 2))(maps, boxes, levels)

    return pool, (maps, _shape((images, count, 4)), _shape((images, count), jnp.int32))


def roi_align_gradient(images: int, count: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The gradient of `roi_align` with respect to the feature maps, and the shapes of its arguments."""
    pool, (maps, boxes, levels) = roi_align(images, count)

    def gradient(maps: list[Array], boxes: Array, levels: Array, grad: Array) -> Any:
        return jax.vjp(lambda maps: pool(maps, boxes, levels), maps)[1](grad)

    return gradient, (maps, boxes, levels, _shape((images, count, SIDE, SIDE, CHANNELS), jnp.bfloat16))


def selection(images: int, train: bool) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Selection of proposals from the RPN's outputs, and the shapes of its arguments."""
    model = abstract(detector_config(NAME), numerics=Numerics("bfloat16"))
    assert isinstance(model, FasterRCNN)
    batch = Images(_shape((images, *CANVAS, 3)), _shape((images, 2), jnp.int32))
    graphdef, state = nnx.split(model)

    def rpn(state: nnx.State, images: Images) -> Any:
        model = nnx.merge(graphdef, state)
        return model.rpn(model.features(images), images)

    outputs = jax.eval_shape(rpn, state, batch)
    return lambda rpn, sizes: select_proposals(rpn, sizes, model.config.rpn, train=train), (outputs, batch.sizes)


def figures(traced: Any) -> dict[str, Any]:
    """The compiler's figures of a program."""
    compiled = compile_traced(traced)
    program = read_program(compiled.text)
    loops = [loop.trips for loop in program.loops]
    counted = {"traffic": program.traffic, "cycles": program.cycles, "loops": loops}
    return {**asdict(replace(compiled, text="")), **counted}


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tpu", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=1, help="images on the chip (default: %(default)s)")
    parser.add_argument("--train", action="store_true", help="also compile the whole train step")
    args = parser.parse_args(argv)
    mesh = pod_mesh(parse_topology("v5e:1x1"))
    rows: dict[str, Callable[[], Any]] = {
        "RoIAlign, 1000 regions": lambda: _traced(mesh, *roi_align(args.images, 1000)),
        "its gradient, 512 regions": lambda: _traced(mesh, *roi_align_gradient(args.images, 512)),
        "selection, inference": lambda: _traced(mesh, *selection(args.images, train=False)),
        "selection, training": lambda: _traced(mesh, *selection(args.images, train=True)),
    }
    if args.train:
        job = Job(read_config(NAME, {"dtype": "bfloat16"}), CANVAS, args.images)
        rows["train step"] = lambda: train_step(job, mesh)
    print(f"{args.images} x {CANVAS[0]}x{CANVAS[1]}, bfloat16, one v5e chip, jax {jax.__version__}\n")
    print(f"{'':<28}{'GB':>9}{'traffic GB':>12}{'TFLOP':>9}{'temp. GB':>10}{'M cycles':>10}{'compiled s':>12}  loops")
    result = {}
    for name, trace in rows.items():
        one = result[name] = figures(trace())
        print(
            f"{name:<28}{one['bytes'] / 1e9:>9.2f}{one['traffic'] / 1e9:>12.2f}{one['flops'] / 1e12:>9.3f}"
            f"{one['temporaries'] / 1e9:>10.2f}{one['cycles'] / 1e6:>10.1f}{one['seconds']:>12.0f}  {one['loops']}",
            flush=True,
        )
    if args.train:
        work, _ = step_work(job)
        once = work.bytes("bfloat16")
        ratio = result["train step"]["traffic"] / once
        print(f"\noperands and results of the layers: {once / 1e9:.2f} GB; traffic is {ratio:.2f} times that")
    print("\n" + json.dumps({"images": args.images, "canvas": CANVAS, **result}))
    return 0


def _shape(sides: tuple[int, ...], dtype: Any = jnp.float32) -> Any:
    return jax.ShapeDtypeStruct(sides, dtype)


def _traced(mesh: Mesh, function: Callable[..., Any], shapes: tuple[Any, ...]) -> Any:
    return jax.jit(function, in_shardings=replicated(mesh)).trace(*shapes)


if __name__ == "__main__":
    sys.exit(main())

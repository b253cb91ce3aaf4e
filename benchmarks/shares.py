"""Shares of the stages in the time of an infer and a train step, from a profile of the compiled program.

    python -m benchmarks.shares [--model NAME] [--canvas H W] [--batch N]

The time of each operation counts for the innermost of jaxdet's named scopes around it: layers (features, rpn, classify)
or operations (propose: top-k and decoding; nms; roi_align; sample: matching and sampling; detect: the second stage's
top-k). An operation that the compiler fused from several scopes counts for one of them.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from benchmarks.peers import our_dtype
from benchmarks.race import machine
from benchmarks.training import boxes, on_device, prepared
from jaxdet.inference import infer_step
from jaxdet.models import FasterRCNN
from jaxdet.planning.hlo_text import read_computations
from jaxdet_convert import from_torch
from jaxdet_convert.parity.weights import detectors, smooth_image, torchvision_model
from jaxdet_convert.torchvision_cpu import import_torchvision

LAYERS = ("features", "rpn", "classify")
OPERATIONS = ("propose", "nms", "roi_align", "sample", "detect")
REST = "the rest"  # losses, optimizer
_SCOPE = re.compile(rf"\b({'|'.join((*LAYERS, *OPERATIONS))})\b")


def scopes(text: str) -> dict[str, str]:
    """The scope of each instruction of a compiled program.

    An instruction without a name has the scope of the instructions that it was fused from, or else of its operands.

    Args:
        text: the program's text.
    """
    _, computations = read_computations(text)
    named = {one.name: _SCOPE.findall(one.scope) for instructions in computations.values() for one in instructions}
    result: dict[str, str] = {}
    for instructions in computations.values():
        for one in instructions:
            fused = [
                scope for name in sorted(one.all_called) for each in computations[name] for scope in named[each.name]
            ]
            inherited = [result[name] for name in one.operands if name in result and not one.scope]
            result[one.name] = (named[one.name] or fused or inherited or [REST])[-1]
    return result


def own_times(events: Sequence[tuple[float, float, str]]) -> Iterator[tuple[str, float]]:
    """(name, own time) of each event of a thread or stream: its time without that of the events inside it.

    Args:
        events: (start, end, name).
    """
    open_events: list[list[Any]] = []  # [end, name, own time]
    for start, end, name in sorted(events, key=lambda event: (event[0], -event[1])):
        while open_events and open_events[-1][0] <= start:
            yield tuple(open_events.pop()[1:])  # type: ignore[misc]
        if open_events:
            open_events[-1][2] -= end - start
        open_events.append([end, name, end - start])
    yield from (tuple(event[1:]) for event in open_events)  # type: ignore[misc]


def profile(text: str, run: Callable[[], Any]) -> dict[str, float]:
    """Seconds of each scope in one run, the sum over all threads."""
    scope_of = scopes(text)
    seconds: dict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run()
        (file,) = Path(folder).rglob("*.xplane.pb")
        for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
            for line in plane.lines:
                # By hlo_op, because a GPU's events have the names of kernels.
                stats = [(one.start_ns, one.end_ns, dict(one.stats).get("hlo_op")) for one in line.events]
                events = [event for event in stats if event[2] is not None]
                for name, time in own_times(events):
                    seconds[scope_of.get(name, REST)] += time / 1e9
    return seconds


def infer(model: FasterRCNN, arrays: list[np.ndarray]) -> dict[str, float]:
    """Seconds of each scope in an infer step."""
    graphdef, state = nnx.split(model)
    images = on_device(model, arrays)
    compiled = infer_step.lower(graphdef, state, images).compile()
    run = lambda: jax.block_until_ready(compiled(state, images))
    run()
    return profile(compiled.as_text(), run)


def train(model: FasterRCNN, arrays: list[np.ndarray]) -> dict[str, float]:
    """Seconds of each scope in a train step."""
    height, width = arrays[0].shape[:2]
    step, (state, *data) = prepared(model, arrays, [boxes(seed, height, width) for seed in range(len(arrays))])
    compiled = step.lower(state, *data).compile()
    states = [state]  # the last state; the step donates it

    def run() -> None:
        states[0], values = compiled(states[0], *data)
        jax.block_until_ready((states[0], values))

    run()
    return profile(compiled.as_text(), run)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shares", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="fasterrcnn_resnet50_fpn", choices=detectors())
    parser.add_argument("--canvas", type=int, nargs=2, default=(512, 672), metavar=("H", "W"))
    parser.add_argument("--batch", type=int, default=1)
    args = parser.parse_args(argv)
    height, width = args.canvas
    module = torchvision_model(import_torchvision(), args.model, frozen=True, min_size=height, max_size=width)
    dtype = our_dtype()
    model: Any = from_torch(module, dtype=dtype)
    arrays = [smooth_image(seed, height, width) for seed in range(args.batch)]
    print(f"{args.model}, {args.batch} of {height}x{width}, {dtype}: shares of the time of all operations")
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    found = {"infer step": infer(model, arrays), "train step": train(model, arrays)}
    print(f"\n{'':<14}" + "".join(f"{name:>14}" for name in found))
    for scope in (*LAYERS, *OPERATIONS, REST):
        print(f"{scope:<14}" + "".join(f"{one[scope] / sum(one.values()):>14.1%}" for one in found.values()))
    shares = {name: sum(one[scope] for scope in OPERATIONS) / sum(one.values()) for name, one in found.items()}
    print(f"{'operations':<14}" + "".join(f"{share:>14.1%}" for share in shares.values()))
    print(json.dumps({"model": args.model, "canvas": [height, width], "batch": args.batch, "seconds": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

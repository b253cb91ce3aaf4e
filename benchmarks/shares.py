"""Where the time of an infer and of a train step goes, from a profile of the compiled program.

    python -m benchmarks.shares [--model NAME] [--canvas H W] [--batch N]

Each operation's own time counts for the innermost of jaxdet's named scopes it lies in: the layers' (features, rpn,
classify) or an operation's around them (propose: top-k and decoding; nms; roi_align; sample: matching and sampling;
detect: the second stage's top-k). Operations that the compiler has made of several scopes count for one of them.
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
    """Of a compiled program's text: the scope that each instruction lies in.

    What the compiler has given no name goes by what it is made of, or else by what it works on.
    """
    _, computations = read_computations(text)
    named = {one.name: _SCOPE.findall(one.scope) for instructions in computations.values() for one in instructions}
    result: dict[str, str] = {}
    for instructions in computations.values():
        for one in instructions:
            inner = [
                scope for name in sorted(one.all_called) for each in computations[name] for scope in named[each.name]
            ]
            before = [result[name] for name in one.operands if name in result and not one.scope]
            result[one.name] = (named[one.name] or inner or before or [REST])[-1]
    return result


def own_times(events: Sequence[tuple[float, float, str]]) -> Iterator[tuple[str, float]]:
    """Of events (start, end, name) of one thread or stream: each one's time less that of the events inside of it."""
    open_events: list[list[Any]] = []  # [end, name, own time]
    for start, end, name in sorted(events, key=lambda event: (event[0], -event[1])):
        while open_events and open_events[-1][0] <= start:
            yield tuple(open_events.pop()[1:])  # type: ignore[misc]
        if open_events:
            open_events[-1][2] -= end - start
        open_events.append([end, name, end - start])
    yield from (tuple(event[1:]) for event in open_events)  # type: ignore[misc]


def profile(text: str, run: Callable[[], Any]) -> dict[str, float]:
    """Seconds of each scope in one run, all threads together."""
    of = scopes(text)
    seconds: dict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run()
        (file,) = Path(folder).rglob("*.xplane.pb")
        for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
            for line in plane.lines:
                stats = [(one.start_ns, one.end_ns, dict(one.stats).get("hlo_op")) for one in line.events]
                events = [event for event in stats if event[2] is not None]  # a GPU's events have names of kernels
                for name, time in own_times(events):
                    seconds[of.get(name, REST)] += time / 1e9
    return seconds


def infer(model: FasterRCNN, arrays: list[np.ndarray]) -> dict[str, float]:
    """Seconds of the scopes of an infer step."""
    graphdef, state = nnx.split(model)
    images = on_device(model, arrays)
    compiled = infer_step.lower(graphdef, state, images).compile()
    run = lambda: jax.block_until_ready(compiled(state, images))
    run()
    return profile(compiled.as_text(), run)


def train(model: FasterRCNN, arrays: list[np.ndarray]) -> dict[str, float]:
    """Seconds of the scopes of a train step."""
    height, width = arrays[0].shape[:2]
    step, (state, *data) = prepared(model, arrays, [boxes(seed, height, width) for seed in range(len(arrays))])
    compiled = step.lower(state, *data).compile()
    held = [state]

    def run() -> None:
        held[0], values = compiled(held[0], *data)
        jax.block_until_ready((held[0], values))

    run()
    return profile(compiled.as_text(), run)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table and a line of JSON."""
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
    print(f"{args.model}, {args.batch} of {height}x{width}, {dtype}: share of the operations' own time")
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

"""Inference on one picture beside torchvision: same weights, same picture, same process, turn by turn.

    python -m benchmarks.inference [--model NAME] [--size H W] [--rounds N]

torchvision runs in both memory layouts, and the faster one counts. "End to end" is a uint8 picture in and numpy
detections out; "model" is what the transformed picture goes through. Every round runs each contender once, so that
whatever else the machine does meets all of them; the medians are compared, and the spread is printed.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxdet import predict
from jaxdet.data import preprocess
from jaxdet.data.canvas import align
from jaxdet.detectors import FasterRCNN
from jaxdet.inference import collate, infer_step
from jaxdet_convert import from_torch
from jaxdet_convert.compare_weights import DETECTORS, smooth_picture, torchvision_model
from jaxdet_convert.torchvision_cpu import import_torchvision

Contender = Callable[[], Any]
THEIRS = ("torchvision NCHW", "torchvision channels_last")
OURS = "jaxdet"


def measure(
    contenders: dict[str, Contender], *, rounds: int, warm_up: int = 1, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each contender in each round, after rounds that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(warm_up + rounds):
        for name, run in contenders.items():
            start = clock()
            run()
            if number >= warm_up:
                seconds[name].append(clock() - start)
    return seconds


def contenders(name: str, height: int, width: int, seed: int = 0) -> dict[str, dict[str, Contender]]:
    """What runs, by kind of measurement and by name."""
    import torch

    module = torchvision_model(import_torchvision(), name, seed=seed)
    model = from_torch(module)
    assert isinstance(model, FasterRCNN)
    last = copy.deepcopy(module).to(memory_format=torch.channels_last)
    picture = smooth_picture(seed, height, width)

    def theirs(detector: Any) -> Contender:
        def run() -> dict[str, np.ndarray]:
            with torch.inference_mode():
                found = detector([torch.from_numpy(picture).permute(2, 0, 1).float() / 255])[0]
            return {key: value.numpy() for key, value in found.items()}

        return run

    def theirs_alone(detector: Any, layout: Any) -> Contender:
        with torch.inference_mode():
            images, _ = detector.transform([torch.from_numpy(picture).permute(2, 0, 1).float() / 255])
            images.tensors = images.tensors.contiguous(memory_format=layout)

        def run() -> Any:
            with torch.inference_mode():
                features = detector.backbone(images.tensors)
                proposals, _ = detector.rpn(images, features)
                return detector.roi_heads(features, proposals, images.image_sizes)

        return run

    transform = model.config.transform
    pixels = preprocess(
        picture, transform.min_size, transform.max_size, mean=transform.image_mean, std=transform.image_std
    )
    batch = jax.device_put(collate([pixels], (align(pixels.shape[0]), align(pixels.shape[1])), 1))
    graphdef, state = nnx.split(model)
    _check(theirs(module)(), predict(model, [picture])[0])
    return {
        "end to end": {
            THEIRS[0]: theirs(module),
            THEIRS[1]: theirs(last),
            OURS: lambda: predict(model, [picture]),
        },
        "model": {
            THEIRS[0]: theirs_alone(module, torch.contiguous_format),
            THEIRS[1]: theirs_alone(last, torch.channels_last),
            OURS: lambda: jax.block_until_ready(infer_step(graphdef, state, batch)),
        },
    }


def _check(theirs: dict[str, np.ndarray], ours: dict[str, Any]) -> None:
    """A race counts between those who do the same work."""
    if len(theirs["boxes"]) != len(ours["boxes"]) or np.abs(theirs["scores"] - ours["scores"]).max(initial=0) > 1e-3:
        raise SystemExit("the two give different detections, so their times mean nothing: run jaxdet parity")


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table and a line of JSON."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default=DETECTORS[0], choices=DETECTORS)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("H", "W"))
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args(argv)
    height, width = args.size
    before = os.getloadavg()[0]
    result: dict[str, Any] = {}
    print(f"{args.model}, one {height}x{width} picture, float32, median of {args.rounds} rounds after warm-up")
    print(
        f"jax {jax.__version__} on {jax.devices()[0].device_kind}, torch {torch.__version__} on cpu with "
        f"{torch.get_num_threads()} threads, {os.cpu_count()} cores, load {before:.1f} before the run\n"
    )
    print(f"{'':<14}{'':<28}{'median s':>9}{'min':>8}{'max':>8}")
    for kind, racers in contenders(args.model, height, width).items():
        seconds = measure(racers, rounds=args.rounds)
        medians = {name: statistics.median(times) for name, times in seconds.items()}
        for name, times in seconds.items():
            print(f"{kind:<14}{name:<28}{medians[name]:>9.3f}{min(times):>8.3f}{max(times):>8.3f}")
        best = min(THEIRS, key=lambda name: medians[name])
        ratio = medians[OURS] / medians[best]
        print(f"{kind:<14}{'jaxdet / best torchvision':<28}{ratio:>9.2f}  (best: {best.split()[1]})\n")
        result[kind] = {"seconds": seconds, "medians": medians, "best": best, "ratio": ratio}
    print(json.dumps({"model": args.model, "size": [height, width], "load": before, **result}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

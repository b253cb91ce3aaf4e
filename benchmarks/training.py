"""The train step compared with torchvision's: same weights, images, boxes and precision, alternately in one process.

    python -m benchmarks.training [--model NAME] [--canvas H W] [--batch N] [--rounds N]

A step computes losses, gradients and an update by SGD with momentum. The batch norms of the backbone are frozen, as in
torchvision's training of its COCO model; all layers are trained. On a CPU both compute in float32, and torchvision runs
in both memory layouts; on a GPU jaxdet computes in bfloat16 and torchvision under AMP, channels-last. Images have the
size of the canvas, so that neither resizes. The rate in TFLOP/s counts a step as three forward passes (`jaxdet summary`
prints their multiply-adds) with the number of sampled proposals; divided by the device's peak it is the model FLOP
utilisation.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from benchmarks.peers import Peer, contenders, our_dtype, peers
from benchmarks.race import Contender, Table
from jaxdet.data import preprocess
from jaxdet.inference import collate
from jaxdet.models import FasterRCNN
from jaxdet.parallel import data_mesh, replicated
from jaxdet.summary import summarize
from jaxdet.training import OptimizerConfig, init_state, make_optimizer, make_train_step
from jaxdet.types import Images, Targets
from jaxdet_convert import from_torch
from jaxdet_convert.parity.weights import detectors, smooth_image, torchvision_model
from jaxdet_convert.torchvision_cpu import import_torchvision

OURS = "jaxdet"
BOXES = 8  # per image, COCO's average
RATE, MOMENTUM, DECAY = 1e-5, 0.9, 1e-4  # a low rate, so that the weights hardly change during the benchmark


def boxes(seed: int, height: int, width: int) -> np.ndarray:
    """``[BOXES, 4]`` xyxy in pixels."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 0.6, (BOXES, 2))
    relative = np.concatenate([corner, corner + rng.uniform(0.05, 0.4, (BOXES, 2))], axis=1)
    return (relative * [width, height, width, height]).astype(np.float32)


def theirs(peer: Peer, arrays: list[np.ndarray], targets: list[np.ndarray]) -> Contender:
    """torchvision's step, as in its training references."""
    import torch

    module = peer.module.train()
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    images = peer.images(arrays)
    truth = [
        {
            "boxes": torch.from_numpy(array).to(peer.device),
            "labels": torch.ones(len(array), dtype=torch.int64, device=peer.device),
        }
        for array in targets
    ]

    def run() -> None:
        with peer.autocast():
            loss = sum(module(images, truth).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        peer.wait()

    return run


def on_device(model: FasterRCNN, arrays: list[np.ndarray]) -> Images:
    """A batch on the device, of images that have the size of the canvas."""
    transform = model.config.transform
    height, width = arrays[0].shape[:2]
    pixels = [
        preprocess(image, height, max(height, width), mean=transform.image_mean, std=transform.image_std)
        for image in arrays
    ]
    return jax.device_put(collate(pixels, (height, width), len(pixels)))


def prepared(model: FasterRCNN, arrays: list[np.ndarray], targets: list[np.ndarray]) -> tuple[Any, tuple[Any, ...]]:
    """The step of `jaxdet train`, compiled at its first call, and its arguments, of which it donates the first."""
    images = on_device(model, arrays)
    shape = (len(targets), BOXES)
    truth = jax.device_put(Targets(np.stack(targets), np.ones(shape, np.int32), np.ones(shape, bool)))  # type: ignore[arg-type]
    config = OptimizerConfig(
        learning_rate=RATE, momentum=MOMENTUM, weight_decay=DECAY, schedule="constant", warmup_steps=0
    )
    optimizer = make_optimizer(config, 1000)
    graphdef, state = init_state(model, optimizer)
    mesh = data_mesh(jax.devices()[:1])
    state, key = jax.device_put((state, jax.random.key(0)), replicated(mesh))
    return make_train_step(graphdef, optimizer, mesh=mesh), (state, images, truth, key)


def ours(model: FasterRCNN, arrays: list[np.ndarray], targets: list[np.ndarray]) -> Contender:
    """A function that runs one step of `prepared`."""
    step, (state, *data) = prepared(model, arrays, targets)
    states = [state]  # the last state; the step donates it

    def run() -> None:
        states[0], values = step(states[0], *data)
        jax.block_until_ready((states[0], values))

    return run


def step_flop(model: FasterRCNN, height: int, width: int) -> float:
    """Floating point operations of a step per image."""
    rows = summarize(model, height, width).rows
    box_macs = sum(row.macs for row in rows if row.path.split(".")[0] in ("box_head", "box_predictor"))
    fraction = model.config.box.batch_size_per_image / model.config.rpn.post_nms_top_n_test
    return 2 * 3 * (sum(row.macs for row in rows) - (1 - fraction) * box_macs)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="fasterrcnn_resnet50_fpn", choices=detectors())
    parser.add_argument("--canvas", type=int, nargs=2, default=(512, 672), metavar=("H", "W"))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args(argv)
    height, width = args.canvas
    sizes = {"min_size": min(height, width), "max_size": max(height, width)}
    module = torchvision_model(import_torchvision(), args.model, frozen=True, **sizes)
    dtype = our_dtype()
    model: Any = from_torch(module, dtype=dtype)
    arrays = [smooth_image(seed, height, width) for seed in range(args.batch)]
    targets = [boxes(seed, height, width) for seed in range(args.batch)]
    table = Table(f"{args.model}, a step of {args.batch} at {height}x{width}, {dtype}, {args.rounds} rounds")
    flop = step_flop(model, height, width)
    racers = {
        **contenders(peers(module), lambda peer: theirs(peer, arrays, targets)),
        OURS: ours(model, arrays, targets),
    }
    table.race("train step", racers, rounds=args.rounds, items=args.batch)
    rate = flop * args.batch / table.medians("train step")[OURS] / 1e12
    memory = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")  # None on a CPU
    print(f"{flop / 1e12:.3f} TFLOP per image and step; jaxdet computes {rate:.2f} TFLOP/s")
    if memory is not None:
        print(f"peak memory {memory / args.batch / 1e9:.2f} GB per image")
    table.finish(model=args.model, canvas=[height, width], batch=args.batch, tflop_per_second=rate, peak_bytes=memory)
    return 0


if __name__ == "__main__":
    sys.exit(main())

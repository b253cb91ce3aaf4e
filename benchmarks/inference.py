"""Inference compared with torchvision: same weights, same images, alternately in one process.

    python -m benchmarks.inference [--model NAME] [--size H W] [--batch N] [--rounds N]

On a CPU both compute in float32, and torchvision runs in both memory layouts, of which the faster one counts; on a GPU
jaxdet computes in bfloat16 and torchvision under AMP, channels-last. "end to end" is from uint8 images to numpy
detections. "model" is from transformed images to detections, all on the device. With a batch size above one, "end to
end" alternates landscape and portrait images, one batch of each: torchvision pads consecutive images to one size, and
jaxdet collects images of the same canvas. "masking" compares the model with and without the masks that make results
independent of padding.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from benchmarks.peers import Peer, contenders, on_gpu, our_dtype, peers
from benchmarks.race import Contender, Table
from jaxdet import predict
from jaxdet.data import preprocess
from jaxdet.data.batching.canvas import align
from jaxdet.inference import collate, infer_step, with_options
from jaxdet.models import FasterRCNN
from jaxdet_convert import from_torch
from jaxdet_convert.parity.weights import detectors, smooth_image, torchvision_model
from jaxdet_convert.torchvision_cpu import import_torchvision

OURS = "jaxdet"


def end_to_end(module: Any, model: FasterRCNN, images: list[np.ndarray], batch: int) -> dict[str, Contender]:
    """From images to detections, ``batch`` images at a time."""
    import torch

    def theirs(peer: Peer) -> Contender:
        def run() -> list[dict[str, np.ndarray]]:
            found: list[dict[str, Any]] = []
            for first in range(0, len(images), batch):
                with torch.inference_mode(), peer.autocast():
                    found += peer.module(peer.images(images[first : first + batch]))
            return [{key: value.float().cpu().numpy() for key, value in one.items()} for one in found]

        return run

    def ours() -> list[dict[str, np.ndarray]]:
        return predict(model, images, batch_size=batch)

    racers = contenders(peers(module), theirs)
    if len(images) == 1 and not on_gpu():  # bfloat16 rounds, and torchvision's result depends on the padding of a batch
        _check_same_detections(next(iter(racers.values()))(), ours())
    return {**racers, OURS: ours}


def model_alone(module: Any, model: FasterRCNN, image: np.ndarray, batch: int) -> dict[str, Contender]:
    """From transformed images to detections, all in the device's memory."""
    import torch

    def theirs(peer: Peer) -> Contender:
        with torch.inference_mode():
            images, _ = peer.module.transform(peer.images([image] * batch))
            images.tensors = images.tensors.contiguous(memory_format=peer.memory_format)

        def run() -> None:
            with torch.inference_mode(), peer.autocast():
                features = peer.module.backbone(images.tensors)
                proposals, _ = peer.module.rpn(images, features)
                peer.module.roi_heads(features, proposals, images.image_sizes)
            peer.wait()

        return run

    return {**contenders(peers(module), theirs), OURS: _step(model, image, batch)}


def masking(model: FasterRCNN, image: np.ndarray, batch: int) -> dict[str, Contender]:
    """jaxdet with and without the masks that make results independent of padding."""
    return {"without": _step(with_options(model, canvas="fast"), image, batch), OURS: _step(model, image, batch)}


def _step(model: FasterRCNN, image: np.ndarray, batch: int) -> Contender:
    """The compiled step, on a batch that is already on the device."""
    transform = model.config.transform
    pixels = preprocess(
        image, transform.min_size, transform.max_size, mean=transform.image_mean, std=transform.image_std
    )
    images = jax.device_put(collate([pixels] * batch, (align(pixels.shape[0]), align(pixels.shape[1])), batch))
    graphdef, state = nnx.split(model)
    return lambda: jax.block_until_ready(infer_step(graphdef, state, images))


def _check_same_detections(theirs: list[Any], ours: list[Any]) -> None:
    """Exits if the detections differ, because then the times cannot be compared."""
    for one, other in zip(theirs, ours, strict=True):
        if len(one["scores"]) != len(other["scores"]) or np.abs(one["scores"] - other["scores"]).max(initial=0) > 1e-3:
            raise SystemExit("the detections differ, so the times cannot be compared: run jaxdet parity")


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="fasterrcnn_resnet50_fpn", choices=detectors())
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("H", "W"))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args(argv)
    height, width = args.size
    module = torchvision_model(import_torchvision(), args.model)
    dtype = our_dtype()
    model = from_torch(module, dtype=dtype)
    assert isinstance(model, FasterRCNN)
    count = 1 if args.batch == 1 else 2 * args.batch
    images = [smooth_image(seed, *((height, width), (width, height))[seed % 2]) for seed in range(count)]
    table = Table(f"{args.model}, {args.batch} of {height}x{width}, {dtype}, {args.rounds} rounds after a warm-up")
    racers = end_to_end(module, model, images, args.batch)
    table.race("end to end", racers, rounds=args.rounds, items=count)
    table.race("model", model_alone(module, model, images[0], args.batch), rounds=args.rounds, items=args.batch)
    table.race("masking", masking(model, images[0], args.batch), rounds=args.rounds, items=args.batch)
    table.finish(model=args.model, size=[height, width], batch=args.batch)
    return 0


if __name__ == "__main__":
    sys.exit(main())

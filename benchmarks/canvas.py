"""Computes the share of padding in the canvases of a training run. Nothing is timed.

    python -m benchmarks.canvas [--batch N] [--min-size S] [--max-size S]

The images are a mix like COCO's, with 640 pixels on the longer side and equally many of each shape: 4:3, 3:2 and 16:9
in both orientations, and squares. For one epoch, the pixels of the canvases are compared with the pixels of the resized
images, each rounded up to multiples of 32 (the cost of a single image, in torchvision as well). Four choices of
canvases are compared: those of the batch plan; one per orientation; one square; and the smallest canvas that holds a
random batch, as in torchvision (whose references group images by aspect ratio).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

import numpy as np

from jaxdet.data import BatchPlan
from jaxdet.data.batching.canvas import align
from jaxdet.data.batching.sizing import ShortestSide

SHAPES = ((480, 640), (427, 640), (360, 640), (640, 480), (640, 427), (640, 360), (640, 640))
EACH = 640  # images per shape


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.canvas", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--min-size", type=int, default=800)
    parser.add_argument("--max-size", type=int, default=1333)
    args = parser.parse_args(argv)
    sizes = np.repeat(np.array(SHAPES), EACH, axis=0)
    try:
        sizing = ShortestSide((args.min_size,), args.max_size)
        plan = BatchPlan(sizes, args.batch, sizing)
    except ValueError as error:
        parser.error(str(error))
    batches = [plan.batch(step) for step in range(plan.steps_per_epoch)]
    used = np.concatenate([batch.indices for batch in batches])
    needed = np.array([[align(side) for side in sizing.largest(*size)] for size in sizes[used].tolist()])
    short, long = align(args.min_size), align(args.max_size)
    shuffled = np.random.default_rng(0).permutation(needed)
    smallest = shuffled.reshape(-1, args.batch, 2).max(axis=1).repeat(args.batch, axis=0)
    portrait = needed[:, :1] > needed[:, 1:]
    choices = {
        f"the plan, {len(plan.canvases)} canvases": np.repeat([batch.canvas for batch in batches], args.batch, axis=0),
        "a canvas an orientation": np.where(portrait, [[long, short]], [[short, long]]),
        "one square": np.full_like(needed, long),
        "what holds a random batch": smallest,
    }
    needed_pixels = needed.prod(axis=1).sum()
    result = {name: float(canvas.prod(axis=1).sum() / needed_pixels - 1) for name, canvas in choices.items()}
    for name, share in result.items():
        print(f"{name:<32}{share:>8.1%} extra")
    print(f"{len(sizes) - len(used)} of {len(sizes)} images of an epoch are left out, as they do not fill a batch")
    print(json.dumps({"batch": args.batch, **result}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Time from the start of a process to its first detection or train step, including imports and compilation.

    python -m benchmarks.startup [--model NAME] [--size H W] [--canvas H W] [--only WHICH] [--rounds N]

jaxdet runs with an empty compilation cache ("cold") and with the cache of an earlier process ("warm"); torchvision
compiles nothing. Every process reads its weights from a file. The processes of the contenders alternate.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import jaxdet
from benchmarks.race import Contender, Table
from jaxdet_convert import from_torch
from jaxdet_convert.parity.weights import detectors, smooth_image, torchvision_model
from jaxdet_convert.torchvision_cpu import import_torchvision

OURS, COLD, THEIRS = "jaxdet warm", "jaxdet cold", "torchvision"

DETECT = """
import numpy as np
import jaxdet
jaxdet.predict(jaxdet.load({folder!r}), [np.load({image!r})])
"""
TRAIN = """
import jax
import jaxdet
from benchmarks.training import boxes, ours
from jaxdet.inference import with_options
from jaxdet_convert.parity.weights import smooth_image
model = with_options(jaxdet.load({folder!r}), min_size={height}, max_size={width})
ours(model, [smooth_image(0, {height}, {width})], [boxes(0, {height}, {width})])()
"""
THEIR_DETECT = """
import numpy as np
import torch
from jaxdet_convert.torchvision_cpu import import_torchvision
module = getattr(import_torchvision().models.detection, {model!r})(weights=None, weights_backbone=None)
module.load_state_dict(torch.load({file!r}, weights_only=True))
image = torch.from_numpy(np.load({image!r})).permute(2, 0, 1).float() / 255
with torch.inference_mode():
    module.eval()([image])
"""
THEIR_TRAIN = """
import torch
from benchmarks.peers import peers
from benchmarks.training import boxes, theirs
from jaxdet_convert.parity.weights import smooth_image
from jaxdet_convert.torchvision_cpu import import_torchvision
module = getattr(import_torchvision().models.detection, {model!r})(
    weights=None, weights_backbone=None, min_size={height}, max_size={width}
)
module.load_state_dict(torch.load({file!r}, weights_only=True))
peer = list(peers(module).values())[0]
theirs(peer, [smooth_image(0, {height}, {width})], [boxes(0, {height}, {width})])()
"""


def process(code: str, cache: Path | None) -> Contender:
    """Runs a program in a new process; ``cache`` is the compilation cache, None: an empty temporary one."""

    def run() -> None:
        with tempfile.TemporaryDirectory() as empty:
            settings = {
                "JAX_COMPILATION_CACHE_DIR": str(cache or empty),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path]),
            }
            subprocess.run([sys.executable, "-c", code], env=os.environ | settings, check=True)

    return run


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="fasterrcnn_resnet50_fpn", choices=detectors())
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("H", "W"))
    parser.add_argument("--canvas", type=int, nargs=2, default=(512, 672), metavar=("H", "W"), help="of the train step")
    parser.add_argument("--only", choices=("detection", "train step"), help="measure only this one")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args(argv)
    table = Table(f"{args.model}, whole processes, {args.rounds} rounds after one that fills the cache", OURS)
    with tempfile.TemporaryDirectory() as folder:
        fields = {"folder": f"{folder}/model", "file": f"{folder}/model.pth", "model": args.model}
        fields["image"] = f"{folder}/image.npy"
        np.save(fields["image"], smooth_image(0, *args.size))
        _write_weights(args.model, fields)
        for kind, size, our_code, their_code in (
            ("detection", args.size, DETECT, THEIR_DETECT),
            ("train step", args.canvas, TRAIN, THEIR_TRAIN),
        ):
            if args.only not in (None, kind):
                continue
            programs = [text.format(**fields, height=size[0], width=size[1]) for text in (our_code, their_code)]
            cache = Path(folder, "cache")
            racers = {
                THEIRS: process(programs[1], None),
                COLD: process(programs[0], None),
                OURS: process(programs[0], cache),
            }
            table.race(f"first {kind}", racers, rounds=args.rounds)
    table.finish(model=args.model, size=args.size, canvas=args.canvas)
    return 0


def _write_weights(name: str, fields: dict[str, str]) -> None:
    """Writes the same weights for both libraries."""
    import torch

    module = torchvision_model(import_torchvision(), name)
    torch.save(module.state_dict(), fields["file"])
    jaxdet.save(from_torch(module), fields["folder"])


if __name__ == "__main__":
    sys.exit(main())

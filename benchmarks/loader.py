"""Decoded and augmented images per second and core, compared with torchvision's transforms on the same files.

    python -m benchmarks.loader [--images N] [--rounds N] [--min-size S] [--max-size S]

The benchmark first draws 640x480 JPEGs with the file size of COCO's. It measures processor time of this process on one
core, which depends little on other load. "jaxdet" is the loader of training: it decodes, flips, normalises and resizes
the rows of the batch plan and puts them on the canvas, with their boxes. "torchvision" is Pillow, `to_tensor`, a flip
and `GeneralizedRCNNTransform`, which also puts images on a canvas. The rows "parts" are parts of jaxdet's loader, and
an alternative to one of them. Each contender runs once per round; medians are compared, and the spread is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.race import Contender, Table
from jaxdet.data import Augmentation, BatchPlan, CocoFiles, read_image
from jaxdet.data.batching.loader import load_batch
from jaxdet.data.transforms import normalize, preprocess_to
from jaxdet.models import DetectorTransform
from jaxdet.ops.pixels import IMAGENET_MEAN, IMAGENET_STD
from jaxdet.ops.resize import resized_size
from jaxdet_convert.parity.weights import smooth_image
from jaxdet_convert.torchvision_cpu import import_torchvision

HEIGHT, WIDTH = 480, 640
BATCH = 8
GRAIN = 14  # standard deviation of noise, in grey levels: gives images of about 150 kB, COCO's average


def make_images(folder: Path, count: int) -> list[Path]:
    """Writes JPEGs with grain, and an annotation file beside them; returns the JPEGs."""
    files, images, annotations = [], [], []
    for number in range(count):
        noise = np.random.default_rng(number).normal(0, GRAIN, (HEIGHT, WIDTH, 1))
        image = np.clip(smooth_image(number, HEIGHT, WIDTH) + noise, 0, 255).astype(np.uint8)
        files.append(folder / f"{number}.jpg")
        Image.fromarray(image).save(files[-1], quality=90)
        images.append({"id": number, "file_name": files[-1].name, "height": HEIGHT, "width": WIDTH})
        annotations += [
            {"id": 8 * number + box, "image_id": number, "category_id": 1, "bbox": [40 * box, 30 * box, 90, 60],
             "area": 5400, "iscrowd": 0}
            for box in range(7)
        ]  # fmt: skip
    categories = [{"id": 1, "name": "thing"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "boxes.json").write_text(json.dumps(content))
    return files


def contenders(folder: Path, files: list[Path], transform: DetectorTransform) -> dict[str, dict[str, Contender]]:
    """Functions that process all images once, by kind and name."""
    import torch

    torchvision = import_torchvision()
    torch.set_num_threads(1)
    dataset = CocoFiles(str(folder / "boxes.json"), str(folder)).open()
    augmentation = Augmentation()
    plan = BatchPlan(dataset.sizes, BATCH, augmentation.sizing(transform))
    size = resized_size(HEIGHT, WIDTH, transform.min_size, transform.max_size)
    decoded = [read_image(file) for file in files]
    theirs = torchvision.models.detection.transform.GeneralizedRCNNTransform(
        transform.min_size, transform.max_size, list(IMAGENET_MEAN), list(IMAGENET_STD)
    )

    def ours() -> None:
        for step in range(len(files) // BATCH):
            load_batch(dataset, plan, step, augmentation=augmentation)

    def torchvision_transforms() -> None:
        to_tensor, flip = torchvision.transforms.functional.to_tensor, torchvision.transforms.functional.hflip
        for start in range(0, len(files), BATCH):
            tensors = [to_tensor(Image.open(file).convert("RGB")) for file in files[start : start + BATCH]]
            boxes = [{"boxes": torch.rand(7, 4) * 40 + torch.tensor([0, 0, 50, 50])} for _ in tensors]
            with torch.inference_mode():
                theirs([flip(x) if number % 2 else x for number, x in enumerate(tensors)], boxes)

    parts = {
        "decode": lambda: [read_image(file) for file in files],
        "normalise": lambda: [normalize(image, IMAGENET_MEAN, IMAGENET_STD) for image in decoded],
        "normalise and resize": lambda: [preprocess_to(image, size) for image in decoded],
        "resize in 8 bits": lambda: [_resize_in_8_bits(image, size) for image in decoded],
    }
    return {"loader": {"jaxdet": ours, "torchvision": torchvision_transforms}, "parts": parts}


def _resize_in_8_bits(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pillow's resizing, without PyTorch's numbers: the cost if the device normalised the images."""
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table and one line of JSON."""
    import PIL

    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--min-size", type=int, default=800)
    parser.add_argument("--max-size", type=int, default=1333)
    args = parser.parse_args(argv)
    if args.images < BATCH or args.images % BATCH:
        parser.error(f"--images must be a multiple of {BATCH}, not {args.images}")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    transform = DetectorTransform(args.min_size, args.max_size)
    with tempfile.TemporaryDirectory() as folder:
        files = make_images(Path(folder), args.images)
        size = sum(file.stat().st_size for file in files) / len(files)
        table = Table(
            f"{WIDTH}x{HEIGHT} JPEGs of {size / 1e3:.0f} kB to {args.min_size} x {args.max_size}, one core, "
            f"processor time, {args.rounds} rounds of {args.images}; Pillow {PIL.__version__}, numpy {np.__version__}",
            clock=time.process_time,
        )
        for kind, racers in contenders(Path(folder), files, transform).items():
            table.race(kind, racers, rounds=args.rounds, items=args.images)
    table.finish(min_size=args.min_size, max_size=args.max_size, images=args.images, jpeg_bytes=size)
    return 0


if __name__ == "__main__":
    sys.exit(main())

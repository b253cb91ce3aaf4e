"""Compare a model with torchvision's, stage by stage, and print the differences.

The command builds torchvision's model, converts the live module, and runs the same images through both. The exit status
is 1 if a difference exceeds its bound.
"""

from __future__ import annotations

import argparse

from jaxdet.cli.images import add_image_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a model of torchvision, such as fasterrcnn_resnet50_fpn")
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="a state dict, or the folder of a jaxdet model or run (default: calibrated random weights)",
    )
    parser.add_argument("--images", metavar="DIR", help="an image or a folder of images (default: generated images)")
    parser.add_argument(
        "--limit", type=int, default=8, metavar="N", help="compare the first N images (default: %(default)s)"
    )
    parser.add_argument(
        "--min-size", type=int, metavar="PX", help="min_size of a detector, for a faster comparison (default: its own)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="random seed of generated weights and images (default: %(default)s)"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the numbers to FILE")
    add_image_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from jaxdet.cli.models import image_files
    from jaxdet.data import read_image
    from jaxdet.models import Task, list_models

    try:
        from jaxdet_convert.torchvision_cpu import import_torchvision

        torchvision = import_torchvision()
    except ImportError as error:
        raise ValueError(f"this needs torch and torchvision: pip install 'jaxdet[parity]' ({error})") from error
    from jaxdet_convert.live import from_torch
    from jaxdet_convert.parity.compare import compare
    from jaxdet_convert.parity.weights import smooth_image, torchvision_model, torchvision_model_of_file

    if args.limit < 1:
        raise ValueError(f"--limit must be at least 1, not {args.limit}")
    options = {}
    if args.min_size is not None:
        if args.min_size < 32:
            raise ValueError(f"--min-size must be at least 32 pixels, not {args.min_size}")
        if args.model not in list_models(Task.DETECTION):
            raise ValueError("--min-size is only for detectors")
        options = {"min_size": args.min_size, "max_size": round(args.min_size * 1333 / 800)}
    if args.images is None:
        sizes = [(480, 640), (640, 480), (427, 640), (480, 640)][: args.limit]
        images = [smooth_image(args.seed + number, *size) for number, size in enumerate(sizes)]
        shown = "generated images"
    else:
        images = [read_image(file) for file in image_files([args.images])[: args.limit]]
        shown = f"images of {args.images}"
    if args.weights is None:
        module = torchvision_model(torchvision, args.model, seed=args.seed, **options)
        source = f"random weights of seed {args.seed}, calibrated to resemble trained ones"
    else:
        module = torchvision_model_of_file(torchvision, args.model, args.weights, **options)
        source = f"weights of {args.weights}"
    report = compare(module, from_torch(module), images)
    print(f"{args.model}: {source}; {shown}")
    print(report.text())
    if args.json:
        Path(args.json).write_text(report.json() + "\n")
        print(f"numbers: {args.json}")
    return 0 if report.ok else 1

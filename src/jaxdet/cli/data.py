"""Check, show or pack the data of a run: --check finds every fault, --show draws a page of images.

--check decodes every image, reports each fault with its file and line, and prints statistics at the model's input:
boxes by class and size, canvases and padding, and how well the anchors fit. The exit status is 1 if training would
refuse the data, and 0 if there are only warnings.

--pack writes the sets as ArrayRecord files, which are faster to read from buckets and network disks than single images;
train on them with `--data DIR`.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from jaxdet.cli.train import add_config_arguments, config_of

if TYPE_CHECKING:
    from jaxdet.runs import TrainConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("--check", action="store_true", help="find every fault and print statistics")
    parser.add_argument("--no-decode", action="store_true", help="with --check: check only the annotations")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that decode (default: one per core)")
    parser.add_argument("--json", metavar="FILE", help="also write the report to FILE")
    parser.add_argument("--pack", metavar="DIR", help="write the sets to DIR/train and DIR/val, as few large files")
    parser.add_argument("--show", action="store_true", help="draw the first training images at the model's input")
    parser.add_argument("--out", default="data.png", metavar="FILE", help="image file of --show (default: %(default)s)")
    parser.add_argument(
        "--count", type=int, default=12, metavar="N", help="number of images of --show (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from jaxdet.cli.weights import config_or_given
    from jaxdet.data_report.check import check
    from jaxdet.data_report.text import to_text

    if not (args.check or args.show or args.pack):
        raise ValueError(
            "say what to do: --check finds faults, --show draws a page of images, --pack DIR writes few large files"
        )
    if args.workers is not None and args.workers < 0:
        raise ValueError(f"--workers must be at least 0, not {args.workers}")
    config, lines = config_or_given(config_of(args))
    for line in lines:
        print(f"weights: {line}")
    status = 0
    if args.check:
        report = check(config, decode=not args.no_decode, workers=args.workers)
        if args.json:
            Path(args.json).parent.mkdir(parents=True, exist_ok=True)
            Path(args.json).write_text(report.json() + "\n")
        print(to_text(report))
        status = 1 if report.errors else 0
    if args.show:
        from jaxdet.data_report.page import show

        show(config, args.out, count=args.count)
        print(f"images: {args.out}")
    if args.pack and not status:
        _pack(config, args.pack)
    return status


def _pack(config: TrainConfig, out: str) -> None:
    from jaxdet.data_report.pack import pack
    from jaxdet.paths import to_path

    for name in ("train", "val"):
        source = getattr(config, name)
        if source is not None:
            dataset = source.open(skip_faulty=config.skip_faulty)
            folder = to_path(out) / name
            shards = pack(dataset, folder)
            print(f"{name:<6} {len(dataset)} images in {len(shards)} files: {folder}")
    print(f"train on them with: --data {out}")

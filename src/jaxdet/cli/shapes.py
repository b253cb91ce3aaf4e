"""Draw a synthetic dataset: shapes as a COCO dataset with a training configuration, or crowds of heads."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="folder for train/, val/, their json files and config.py")
    parser.add_argument("--train", type=int, metavar="N", help="training images (default: 1500; with --crowd 300)")
    parser.add_argument("--val", type=int, metavar="N", help="validation images (default: 100; with --crowd 40)")
    parser.add_argument(
        "--crowd", action="store_true", help="draw crowds of hundreds of heads, with the lists train.txt and val.txt"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    import shutil
    from importlib.resources import as_file, files
    from pathlib import Path

    from jaxdet.data.synthetic.crowds import draw_crowds
    from jaxdet.data.synthetic.shapes import draw_shapes

    folder = Path(args.directory)
    train, val = (
        default if given is None else given
        for given, default in zip((args.train, args.val), (300, 40) if args.crowd else (1500, 100), strict=True)
    )
    if min(train, val) < 1:
        raise ValueError(f"--train and --val must be at least 1 image each, not {train} and {val}")
    if args.crowd:
        draw_crowds(folder, images_train=train, images_val=val, seed=args.seed)
        print(f"{train} + {val} images of crowds in {folder}, with the lists train.txt and val.txt")
        print(f"train on them with: CROWD={folder} jaxdet train examples/heads.py --out RUN")
        return 0
    draw_shapes(folder, images_train=train, images_val=val, seed=args.seed)
    with as_file(files("jaxdet.runs") / "shapes_config.py") as source:
        shutil.copyfile(source, folder / "config.py")
    print(f"{train} + {val} images of rings, squares and triangles in {folder}")
    print(f"train on them with: jaxdet train {folder / 'config.py'} --out RUN")
    return 0

"""Draw pictures of shapes as a COCO data set, with a configuration file that trains on them."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="where train/, val/, their json files and config.py go")
    parser.add_argument("--train", type=int, default=1500, metavar="N", help="training pictures (default: %(default)s)")
    parser.add_argument("--val", type=int, default=100, metavar="N", help="validation pictures (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> int:
    import shutil
    from importlib.resources import as_file, files
    from pathlib import Path

    from jaxdet.data.shapes import draw_shapes

    folder = Path(args.directory)
    draw_shapes(folder, images_train=args.train, images_val=args.val, seed=args.seed)
    with as_file(files("jaxdet.runs") / "shapes_config.py") as source:
        shutil.copyfile(source, folder / "config.py")
    print(f"{args.train} + {args.val} pictures of rings, squares and triangles in {folder}")
    print(f"train on them with: jaxdet train {folder / 'config.py'} --out RUN")
    return 0

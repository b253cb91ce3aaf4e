"""The options of commands that read image files."""

from __future__ import annotations

import argparse


def add_image_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--max-pixels``, which `apply_image_arguments` applies."""
    parser.add_argument(
        "--max-pixels", type=int, metavar="N", help="read images of up to N pixels (default: 178956970, Pillow's limit)"
    )


def apply_image_arguments(args: argparse.Namespace) -> None:
    """Sets the limit of ``--max-pixels``, if given, for this process and its workers.

    Raises:
        ValueError: the limit is below 1.
    """
    if getattr(args, "max_pixels", None) is not None:
        from jaxdet.data import set_max_pixels

        set_max_pixels(args.max_pixels)

"""Classify images: the five most likely classes of each with their probabilities."""

from __future__ import annotations

import argparse
from typing import Any

from jaxdet.cli.images import add_image_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="files and folders")
    parser.add_argument(
        "--weights",
        required=True,
        metavar="MODEL",
        help="a model's or a run's folder, a weights file, or official weights",
    )
    parser.add_argument("--names", metavar="FILE", help="class names, one a line")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="default: %(default)s")
    add_image_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from jaxdet.cli.models import image_files, open_model, read_names
    from jaxdet.data import read_image
    from jaxdet.inference import classify
    from jaxdet.models import Task

    files = image_files(args.images)
    model: Any = open_model(args.weights)
    if model.config.task is not Task.CLASSIFICATION:
        raise ValueError(f"{args.weights} holds {model.config.task.value}; use jaxdet detect")
    classes = model.config.num_classes
    if classes is None:
        raise ValueError(f"{args.weights} has no classifier")
    names = list(model.config.names) or [f"class {index}" for index in range(classes)]
    if args.names:
        names = read_names(args.names)
        if len(names) != classes:
            raise ValueError(f"{args.names} has {len(names)} names for {classes} classes")
    for file in files:
        probabilities = classify(model, [read_image(file)])[0]
        print(file)
        for label in (-probabilities).argsort()[: args.top]:
            print(f"  {probabilities[label]:7.2%}  {names[label]}")
    return 0

"""Classify images: print the most likely classes of each image with their probabilities."""

from __future__ import annotations

import argparse
from typing import Any

from jaxdet.cli.images import add_image_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files and folders")
    parser.add_argument(
        "--weights",
        required=True,
        metavar="MODEL",
        help="folder of a model or of a run, a weights file, or the name of official weights",
    )
    parser.add_argument("--names", metavar="FILE", help="class names, one per line, instead of the model's")
    parser.add_argument(
        "--top", type=int, default=5, metavar="N", help="number of classes to print (default: %(default)s)"
    )
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

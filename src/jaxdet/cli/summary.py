"""What a model computes: layers or stages with output shapes, parameters and multiplications.

A classifier is shown as the torchsummary package shows it in PyTorch, with a column of multiply-accumulates (MACs); a
detector by its stages, from the transform to post-processing. Nothing is computed, so any size is quick.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a model's name, a model's or a run's folder, or a weights file")
    parser.add_argument(
        "--size", nargs=2, type=int, required=True, metavar=("H", "W"),
        help="the image's height and width; for a detector before it is resized",
    )  # fmt: skip
    parser.add_argument("--num-classes", type=int, metavar="N", help="of a named model; a detector's with background")
    parser.add_argument("--batch", type=int, metavar="B", help="images in a batch (1, shown as -1)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    import json

    from jaxdet.summary import summarize, to_dict, to_text

    summary = summarize(_model(args.model, args.num_classes), *args.size, batch=args.batch)
    print(json.dumps({"model": args.model, **to_dict(summary)}, indent=1) if args.json else to_text(summary))
    return 0


def _model(name: str, num_classes: int | None):
    from jaxdet.cli.models import open_model
    from jaxdet.models import abstract, list_models, model_config
    from jaxdet.paths import to_path

    if name not in list_models() and to_path(name).exists():
        if num_classes is not None:
            raise ValueError(f"--num-classes is for a named model; {name} knows its own")
        return open_model(name)
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"--num-classes must be at least 1; got {num_classes}")
    options = {} if num_classes is None else {"num_classes": num_classes}
    return abstract(model_config(name, **options))

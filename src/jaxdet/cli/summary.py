"""Print the layers or stages of a model with output shapes, parameters and multiply-accumulates (MACs).

Classifiers are shown layer by layer, in the format of PyTorch's torchsummary package with a column of MACs; detectors
stage by stage, from the transform to post-processing. Only shapes are computed, so all sizes are fast.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", help="name of a model, folder of a model or of a run, or a weights file"
    )
    parser.add_argument(
        "--size", nargs=2, type=int, required=True, metavar=("H", "W"),
        help="height and width of the image; for detectors before resizing",
    )  # fmt: skip
    parser.add_argument(
        "--num-classes",
        type=int,
        metavar="N",
        help="number of classes of a named model, with the background in a detector",
    )
    parser.add_argument("--batch", type=int, metavar="B", help="images per batch (default: 1, printed as -1)")
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
            raise ValueError(f"--num-classes is only for named models: leave it out, {name} has its own")
        return open_model(name)
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"--num-classes must be at least 1, got {num_classes}")
    options = {} if num_classes is None else {"num_classes": num_classes}
    return abstract(model_config(name, **options))

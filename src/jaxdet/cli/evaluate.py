"""COCO metrics of a detector on a data set, overall and by class; top-1 and top-5 accuracy of a classifier.

jaxdet evaluate MODEL val.json pictures/          a COCO file
jaxdet evaluate MODEL val VOC2012/ --voc          a split of a Pascal VOC folder
jaxdet evaluate MODEL --data DIR                  the validation set of a folder in any known layout
jaxdet evaluate MODEL --config CONFIG             that of a training configuration

All devices share each batch.
"""

from __future__ import annotations

import argparse
from typing import Any

from jaxdet.cli.hosts import add_distributed_arguments, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", metavar="MODEL", help="a jaxdet model's folder, or a PyTorch weights file")
    parser.add_argument("annotations", nargs="?", help="a COCO json file, or a split of a Pascal VOC folder")
    parser.add_argument("images", nargs="?", help="the folder of its pictures, or the Pascal VOC folder")
    parser.add_argument("--voc", action="store_true", help="read Pascal VOC xml")
    parser.add_argument("--data", metavar="DIR", help="a folder with a validation set")
    parser.add_argument("--config", metavar="CONFIG", help="a training configuration; its backbone, if it brings one")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes that decode pictures")
    parser.add_argument("--losses", action="store_true", help="also compute the losses, in the same pass")
    parser.add_argument("--skip-faulty", action="store_true", help="leave out faulty boxes instead of stopping")
    parser.add_argument("--json", metavar="FILE", help="also write the metrics there")
    parser.add_argument("--results", metavar="FILE", help="also write the detections there, in COCO's result format")
    parser.add_argument("--curves", metavar="FILE", help="also draw precision over recall there (PNG)")
    add_distributed_arguments(parser)


def run(args: argparse.Namespace) -> int:
    import json
    from functools import partial

    from jaxdet.cli.models import open_model
    from jaxdet.detectors import FasterRCNN
    from jaxdet.parallel import data_mesh, is_first, on_first
    from jaxdet.paths import to_path
    from jaxdet.plots import plot_precision_recall
    from jaxdet.runs import evaluate, evaluate_classifier
    from jaxdet.runs.storage import write_text

    source = _source(args)
    model = open_model(args.weights, config=args.config)
    dataset = source.open(skip_faulty=args.skip_faulty)
    options: Any = {
        "batch_size": args.batch_size, "workers": args.workers, "mesh": data_mesh(), "progress": is_first()
    }  # fmt: skip
    files = [to_path(path) for path in (args.results, args.json, args.curves) if path]
    for path in files:
        on_first(partial(path.parent.mkdir, parents=True, exist_ok=True))
    if not isinstance(model, FasterRCNN):
        metrics = evaluate_classifier(model, dataset, **options)
        _print(metrics)
    else:
        metrics, evaluator = evaluate(model, dataset, with_losses=args.losses, **options)
        _print({name: value for name, value in metrics.items() if not name.startswith("AP/")})
        say(f"\n{evaluator.table()}")
        if args.results:
            on_first(lambda: evaluator.write(args.results))
        if args.curves:
            on_first(lambda: plot_precision_recall(evaluator.classes, args.curves))
    if args.json:
        on_first(lambda: write_text(to_path(args.json), json.dumps(metrics, indent=1)))
    return 0


def _print(metrics: dict[str, float]) -> None:
    for name, value in metrics.items():
        say(f"{name:<24} {value:.3f}" if value >= 0 else f"{name:<24} -")


def _source(args: argparse.Namespace) -> Any:
    """Where the data lies, by whichever way it was given."""
    from jaxdet.data import CocoFiles, VocFolder, find_sources
    from jaxdet.runs import read_config

    if args.annotations and args.images:
        return VocFolder(args.images, args.annotations) if args.voc else CocoFiles(args.annotations, args.images)
    if args.annotations:
        raise ValueError("give both the annotations and the folder of their pictures, or --data DIR")
    if args.data:
        return find_sources(args.data)[1]
    if args.config:
        source = read_config(args.config).val
        if source is None:
            raise ValueError(f"{args.config} has no validation set; give the data")
        return source
    raise ValueError("give the data: annotations and pictures, or --data DIR, or --config CONFIG")

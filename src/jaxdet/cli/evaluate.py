"""Evaluate a model on a dataset: COCO or crowd metrics of detectors, top-1 and top-5 accuracy of classifiers.

jaxdet evaluate MODEL val.json images/            a COCO file
jaxdet evaluate MODEL val VOC2012/ --voc          a split of a Pascal VOC folder
jaxdet evaluate MODEL heads.txt images/           a HeadHunter list with paths relative to images/
jaxdet evaluate MODEL --data DIR                  the validation set of a folder in any known layout
jaxdet evaluate MODEL --config CONFIG             the validation set of a training configuration

--val-fraction F evaluates the images that training with the same --val-fraction and --val-seed holds out.

Each batch is divided over all devices.
"""

from __future__ import annotations

import argparse
from typing import Any

from jaxdet.cli.hosts import add_distributed_arguments, say
from jaxdet.cli.images import add_image_arguments
from jaxdet.cli.train import add_split_arguments, split_of

_DETECTOR_ARGUMENTS = ("metrics", "max_dets", "losses", "results", "curves")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "weights",
        metavar="MODEL",
        help="folder of a model or of a run, a weights file, or the name of official weights",
    )
    parser.add_argument(
        "annotations", nargs="?", help="a COCO json file, a HeadHunter list (.txt), or a split of a VOC folder"
    )
    parser.add_argument("images", nargs="?", help="folder of the images, or the Pascal VOC folder")
    parser.add_argument("--voc", action="store_true", help="read Pascal VOC xml files")
    parser.add_argument(
        "--zero-based", action="store_true", help="with --voc: corners are edges from 0, not inclusive pixels from 1"
    )
    parser.add_argument("--data", metavar="DIR", help="a folder with a validation set")
    add_split_arguments(parser)
    parser.add_argument(
        "--config", metavar="CONFIG", help="a training configuration, for its data and its custom backbone"
    )
    parser.add_argument(
        "--metrics",
        choices=("coco", "crowd", "heads"),
        metavar="{coco,crowd}",
        help="crowd: AP at IoU 0.5, log-average miss rate, F1, recall, MODA and MODP, for data with one class "
        "(default: those of --config, or COCO's)",
    )
    parser.add_argument(
        "--max-dets",
        type=int,
        metavar="K",
        help="COCO's metrics count up to K detections per class and image (default: 100)",
    )
    parser.add_argument(
        "--batch-size", type=int, default=8, metavar="N", help="images per batch (default: %(default)s)"
    )
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes that decode images")
    parser.add_argument("--losses", action="store_true", help="also compute the losses")
    parser.add_argument("--skip-faulty", action="store_true", help="leave out faulty boxes instead of stopping")
    parser.add_argument("--json", metavar="FILE", help="also write the metrics to FILE")
    parser.add_argument("--results", metavar="FILE", help="also write the detections to FILE, in COCO's result format")
    parser.add_argument("--curves", metavar="FILE", help="also draw the metrics' curves (PNG)")
    add_image_arguments(parser)
    add_distributed_arguments(parser)


def run(args: argparse.Namespace) -> int:
    import json
    from functools import partial

    from jaxdet.cli.models import open_model
    from jaxdet.evaluation import limit_notes
    from jaxdet.models import Task
    from jaxdet.parallel import data_mesh, is_first, on_first
    from jaxdet.paths import to_path, write_text
    from jaxdet.plots import plot_evaluation
    from jaxdet.runs import evaluate, evaluate_classifier

    source, skip_faulty = _source(args)
    model: Any = open_model(args.weights, config=args.config)
    dataset = source.open(skip_faulty=skip_faulty)
    options: Any = {
        "batch_size": args.batch_size, "workers": args.workers, "mesh": data_mesh(), "progress": is_first()
    }  # fmt: skip
    files = [to_path(path) for path in (args.results, args.json, args.curves) if path]
    for path in files:
        on_first(partial(path.parent.mkdir, parents=True, exist_ok=True))
    evaluator = None
    if model.config.task is not Task.DETECTION:
        given = [f"--{name.replace('_', '-')}" for name in _DETECTOR_ARGUMENTS if getattr(args, name)]
        if given:
            raise ValueError(f"{', '.join(given)}: only for detectors, and {args.weights} is a {type(model).__name__}")
        metrics = evaluate_classifier(model, dataset, **options)
        _print_metrics(metrics)
    else:
        kind, max_dets = _metrics_and_limit(args)
        model = _with_max_dets(model, args.max_dets)
        metrics, evaluator = evaluate(
            model, dataset, metrics=kind, max_dets=max_dets, with_losses=args.losses, **options
        )
        _print_metrics({name: value for name, value in metrics.items() if not name.startswith("AP/")})
        say(f"\n{evaluator.table()}")
        for note in limit_notes(dataset, model.config.max_detections, metrics=kind, max_dets=max_dets):
            say(f"note: {note}")
        if args.results:
            on_first(partial(evaluator.write, args.results))
    if args.json:
        on_first(lambda: write_text(to_path(args.json), json.dumps(metrics, indent=1)))
    if args.curves and evaluator is not None:
        on_first(partial(plot_evaluation, evaluator, args.curves))
    return 0


def _print_metrics(metrics: dict[str, float]) -> None:
    for name, value in metrics.items():
        # -1 means that a metric is undefined, except in MODA: it is -1 with twice as many mistakes as objects.
        defined = value != -1 or name.startswith("MODA")
        say(f"{name:<24} {value:.3f}" if defined else f"{name:<24} -")


def _metrics_and_limit(args: argparse.Namespace) -> tuple[Any, int | None]:
    """The name of the metrics, and their limit of detections per class and image."""
    from jaxdet.evaluation import check_metrics
    from jaxdet.runs import read_config

    config = read_config(args.config) if args.config else None
    kind = args.metrics or (config.metrics if config else "coco")
    max_dets = args.max_dets
    if max_dets is None and config is not None and kind == "coco":
        max_dets = config.max_dets
    return check_metrics(kind, max_dets), max_dets


def _with_max_dets(model: Any, max_dets: int | None) -> Any:
    """The model, with a limit of detections per image that is at least ``max_dets``."""
    from jaxdet.inference import under_config

    own = model.config.max_detections
    if max_dets is None or max_dets <= own:
        return model
    say(f"the model returns up to {max_dets} detections per image for --max-dets; its own limit is {own}")
    return under_config(model, model.config.with_max_detections(max_dets))


def _source(args: argparse.Namespace) -> tuple[Any, bool]:
    """The data source that the arguments give, and whether its faulty boxes are left out."""
    from jaxdet.data import CocoFiles, HeadList, VocFolder, find_sources
    from jaxdet.runs import read_config

    fraction, seed = split_of(args)
    if args.zero_based and not args.voc:
        raise ValueError("--zero-based is an option of --voc: give both")
    if args.voc and not (args.annotations and args.images):
        raise ValueError("--voc needs a split and a folder (jaxdet evaluate MODEL test DIR --voc)")
    if args.annotations and args.data:
        raise ValueError("give annotations and the folder of their images, or --data DIR, not both")
    if args.annotations and args.images:
        source: Any
        if args.voc:
            source = VocFolder(args.images, args.annotations, one_based=not args.zero_based)
        else:
            source = (HeadList if args.annotations.endswith(".txt") else CocoFiles)(args.annotations, args.images)
        return _held_out(source, args), args.skip_faulty
    if args.annotations:
        raise ValueError("give both the annotations and the folder of their images, or --data DIR")
    if args.data:
        train, val = find_sources(args.data)
        if val is not None and fraction is not None:
            raise ValueError(f"{args.data} has a validation set: leave out --val-fraction")
        if val is None and fraction is None:
            raise ValueError(
                f"{args.data} has a training set and no validation set: --val-fraction 0.2 evaluates the images "
                "that training with it holds out, or give annotations and images (jaxdet evaluate MODEL train.json DIR)"
            )
        return val if val is not None else _held_out(train, args), args.skip_faulty
    if args.config:
        config = read_config(args.config, val_fraction=fraction, val_seed=seed)
        if config.val is None:
            raise ValueError(f"{args.config} has no validation set; give the data")
        return config.val, args.skip_faulty or config.skip_faulty
    raise ValueError("give the data: annotations and images, or --data DIR, or --config CONFIG")


def _held_out(source: Any, args: argparse.Namespace) -> Any:
    """The part of a source that ``--val-fraction`` holds out; the whole source without this option."""
    from jaxdet.data import split_source

    fraction, seed = split_of(args)
    return source if fraction is None else split_source(source, fraction, seed=seed)[1]

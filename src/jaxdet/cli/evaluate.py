"""COCO or crowd metrics of a detector on a dataset; top-1 and top-5 accuracy of a classifier.

jaxdet evaluate MODEL val.json images/          a COCO file
jaxdet evaluate MODEL val VOC2012/ --voc          a split of a Pascal VOC folder
jaxdet evaluate MODEL heads.txt images/         a HeadHunter list, and the folder that its paths are relative to
jaxdet evaluate MODEL --data DIR                  the validation set of a folder in any known layout
jaxdet evaluate MODEL --config CONFIG             that of a training configuration

--val-fraction F takes the images that training with the same option, and the same --val-seed, held out.

All devices share each batch.
"""

from __future__ import annotations

import argparse
from typing import Any

from jaxdet.cli.hosts import add_distributed_arguments, say
from jaxdet.cli.images import add_image_arguments
from jaxdet.cli.train import add_split_arguments, split_of

_OF_DETECTORS = ("metrics", "max_dets", "losses", "results", "curves")  # arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "weights", metavar="MODEL", help="a model's or a run's folder, a weights file, or official weights"
    )
    parser.add_argument(
        "annotations", nargs="?", help="a COCO json file, a HeadHunter list (.txt), or a split of a VOC folder"
    )
    parser.add_argument("images", nargs="?", help="the folder of its images, or the Pascal VOC folder")
    parser.add_argument("--voc", action="store_true", help="read Pascal VOC xml")
    parser.add_argument(
        "--zero-based", action="store_true", help="corners of --voc are edges from 0, not inclusive pixels from 1"
    )
    parser.add_argument("--data", metavar="DIR", help="a folder with a validation set")
    add_split_arguments(parser)
    parser.add_argument("--config", metavar="CONFIG", help="a training configuration; its backbone, if it brings one")
    parser.add_argument(
        "--metrics",
        choices=("coco", "crowd", "heads"),
        metavar="{coco,crowd}",
        help="crowd: AP at IoU 0.5, log-average miss rate, F1, recall, MODA and MODP, on data of one class; by default "
        "those of --config, or COCO's",
    )
    parser.add_argument(
        "--max-dets", type=int, metavar="K", help="COCO's metrics count K detections of a class on an image, not 100"
    )
    parser.add_argument("--batch-size", type=int, default=8, metavar="N")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes that decode images")
    parser.add_argument("--losses", action="store_true", help="also compute the losses, in the same pass")
    parser.add_argument("--skip-faulty", action="store_true", help="leave out faulty boxes instead of stopping")
    parser.add_argument("--json", metavar="FILE", help="also write the metrics there")
    parser.add_argument("--results", metavar="FILE", help="also write the detections there, in COCO's result format")
    parser.add_argument("--curves", metavar="FILE", help="also draw the metrics' curves there (PNG)")
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
        given = [f"--{name.replace('_', '-')}" for name in _OF_DETECTORS if getattr(args, name)]
        if given:
            raise ValueError(f"{', '.join(given)}: for detectors, and {args.weights} holds a {type(model).__name__}")
        metrics = evaluate_classifier(model, dataset, **options)
        _print(metrics)
    else:
        kind, max_dets = _metrics(args)
        model = _of_as_many(model, args.max_dets)
        metrics, evaluator = evaluate(
            model, dataset, metrics=kind, max_dets=max_dets, with_losses=args.losses, **options
        )
        _print({name: value for name, value in metrics.items() if not name.startswith("AP/")})
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


def _print(metrics: dict[str, float]) -> None:
    for name, value in metrics.items():
        counted = value != -1 or name.startswith("MODA")  # which is -1 where twice as much is wrong as there is
        say(f"{name:<24} {value:.3f}" if counted else f"{name:<24} -")


def _metrics(args: argparse.Namespace) -> tuple[Any, int | None]:
    """Which metrics, and how many detections they count."""
    from jaxdet.evaluation import check_metrics
    from jaxdet.runs import read_config

    config = read_config(args.config) if args.config else None
    kind = args.metrics or (config.metrics if config else "coco")
    max_dets = args.max_dets
    if max_dets is None and config is not None and kind == "coco":
        max_dets = config.max_dets
    return check_metrics(kind, max_dets), max_dets


def _of_as_many(model: Any, max_dets: int | None) -> Any:
    """The model, giving at least as many detections of an image as are counted."""
    from jaxdet.inference import under_config

    own = model.config.max_detections
    if max_dets is None or max_dets <= own:
        return model
    say(f"the model gives up to {max_dets} detections of an image, for --max-dets; its own limit is {own}")
    return under_config(model, model.config.with_max_detections(max_dets))


def _source(args: argparse.Namespace) -> tuple[Any, bool]:
    """Where the data lies, by whichever way it was given, and whether its faulty boxes are left out."""
    from jaxdet.data import CocoFiles, HeadList, VocFolder, find_sources
    from jaxdet.runs import read_config

    fraction, seed = split_of(args)
    if args.zero_based and not args.voc:
        raise ValueError("--zero-based belongs to --voc")
    if args.voc and not (args.annotations and args.images):
        raise ValueError("--voc reads a split of a folder: give both (jaxdet evaluate MODEL test DIR --voc)")
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
                f"{args.data} has a training set and no validation set: --val-fraction 0.2 takes the images that "
                "training with it holds out, or give annotations and images (jaxdet evaluate MODEL train.json DIR)"
            )
        return val if val is not None else _held_out(train, args), args.skip_faulty
    if args.config:
        config = read_config(args.config, val_fraction=fraction, val_seed=seed)
        if config.val is None:
            raise ValueError(f"{args.config} has no validation set; give the data")
        return config.val, args.skip_faulty or config.skip_faulty
    raise ValueError("give the data: annotations and images, or --data DIR, or --config CONFIG")


def _held_out(source: Any, args: argparse.Namespace) -> Any:
    """What --val-fraction holds out of a source; without the option all of it."""
    from jaxdet.data import split_source

    fraction, seed = split_of(args)
    return source if fraction is None else split_source(source, fraction, seed=seed)[1]

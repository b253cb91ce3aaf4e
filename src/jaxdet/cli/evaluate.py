"""COCO metrics of a model on a data set: AP, AP50, AP75, by size, recall, and AP of each class."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", metavar="MODEL", help="a jaxdet model's folder")
    parser.add_argument("annotations", help="a COCO json file, or a split of a Pascal VOC folder (with --voc)")
    parser.add_argument("images", help="the folder of its pictures, or the Pascal VOC folder (with --voc)")
    parser.add_argument("--voc", action="store_true", help="read Pascal VOC xml")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N")
    parser.add_argument("--skip-faulty", action="store_true", help="leave out faulty boxes instead of stopping")
    parser.add_argument("--json", metavar="FILE", help="also write the metrics there")
    parser.add_argument("--results", metavar="FILE", help="also write the detections there, in COCO's result format")


def run(args: argparse.Namespace) -> int:
    import json
    from pathlib import Path

    from jaxdet.cli.models import open_detector
    from jaxdet.data import CocoFiles, DataSource, VocFolder
    from jaxdet.runs import evaluate

    model = open_detector(args.weights)
    source: DataSource
    if args.voc:
        source = VocFolder(args.images, args.annotations)
    else:
        source = CocoFiles(args.annotations, args.images)
    dataset = source.open(skip_faulty=args.skip_faulty)
    ids = category_ids(model.config.names, model.config.num_classes, dataset)
    for path in filter(None, (args.results, args.json)):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    metrics, evaluator = evaluate(model, dataset, batch_size=args.batch_size, category_ids=ids)
    for name, value in metrics.items():
        print(f"{name:<24} {value:.3f}" if value >= 0 else f"{name:<24} -")
    if args.results:
        evaluator.write(args.results)
    if args.json:
        Path(args.json).write_text(json.dumps(metrics, indent=1))
    return 0


def category_ids(names, num_classes, dataset) -> tuple[int, ...]:
    """The data set's category id of each label of a model: by class name where the model knows its names.

    Raises:
        ValueError: the model lacks a class of the data set, or has no names and another number of classes.
    """
    by_name = dict(zip(dataset.names, dataset.category_ids, strict=True))
    if names:
        missing = [name for name in dataset.names[1:] if name not in names]
        if missing:
            raise ValueError(f"the model has no classes {', '.join(missing)}; it knows {', '.join(names[1:])}")
        return (-1, *(by_name.get(name, -1) for name in names[1:]))
    if num_classes != len(dataset.names):
        raise ValueError(
            f"the model has {num_classes} classes and the data set {len(dataset.names)}, background included"
        )
    return dataset.category_ids

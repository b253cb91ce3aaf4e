"""Train a detector from a configuration file.

CONFIG is a Python file whose config() returns a jaxdet.runs.TrainConfig; `jaxdet shapes DIR` writes one to start from.
Any of its fields can be changed on the command line: --set steps=1000 --set optimizer_learning_rate=0.01
"""

from __future__ import annotations

import argparse
import ast


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a Python file with a function config()")
    parser.add_argument("--out", required=True, metavar="DIR", help="where the model, metrics and loss curve go")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a field of the configuration"
    )


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from jaxdet.cli.evaluate import category_ids
    from jaxdet.detectors import build
    from jaxdet.nn import Numerics
    from jaxdet.runs import evaluate, model_for, read_config, save, train
    from jaxdet.runs.checkpoint import start_from
    from jaxdet.runs.loop import CURVE_FILE

    config = read_config(args.config, parse_options(args.set))
    dataset = config.train.open(skip_faulty=config.skip_faulty)
    validation = config.val.open(skip_faulty=config.skip_faulty)
    skipped = f", {dataset.skipped} faulty boxes skipped" if dataset.skipped else ""
    print(f"{len(dataset)} pictures to train on{skipped}, {len(validation)} to validate on")
    print(f"classes     {', '.join(dataset.names[1:])}")
    # By name, and before the run: a validation set may number its classes otherwise.
    ids = category_ids(dataset.names, len(dataset.names), validation)
    numerics = Numerics(config.dtype, precision=config.precision)
    if config.weights:
        model = start_from(model_for(config, dataset), config.weights, numerics=numerics)
    else:
        model = build(model_for(config, dataset), numerics=numerics)
    if not config.weights and config.backbone_weights:
        from jaxdet_convert import load_backbone

        model, dropped = load_backbone(model, config.backbone_weights)
        print(f"backbone filled from {config.backbone_weights}; left out: {', '.join(dropped) or 'nothing'}")
    out = Path(args.out)
    model = train(config, model, dataset, out)
    save(model, out / "model")
    metrics, _ = evaluate(model, validation, batch_size=config.eval_batch_size, category_ids=ids)
    print(f"model       {out / 'model'}")
    print(f"loss curve  {out / CURVE_FILE}")
    print("  ".join(f"{name} {metrics[name]:.3f}" for name in ("AP", "AP50", "AP75")))
    return 0


def parse_options(pairs: list[str]) -> dict[str, object]:
    """``["steps=10", "dtype=bfloat16"]`` as a dict; values are Python literals, or else strings."""
    options: dict[str, object] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign:
            raise ValueError(f"--set {pair}: expected KEY=VALUE")
        try:
            options[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            options[name] = text
    return options

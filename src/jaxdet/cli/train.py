"""Train a detector or a classifier; an existing run is continued.

CONFIG is a recipe's name, a Python file whose config() returns a jaxdet.runs.TrainConfig (`jaxdet shapes DIR` writes
one to start from), or one of HeadHunter's YAML files. Any of its fields can be changed on the command line:

    jaxdet train finetune --data my_images --out run --set epochs=10 --set optimizer_learning_rate=0.01

SIGTERM and Ctrl-C save the run and stop it; the same command continues it. To lengthen or change a run, start a new one
from its state: --out NEW --from RUN. On many hosts, run the same command on each, and give a folder or a gs:// URL as
DIR that all of them can access (docs/pods.md).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jaxdet.cli.hosts import add_distributed_arguments, say
from jaxdet.cli.images import add_image_arguments
from jaxdet.cli.options import parse_options

if TYPE_CHECKING:
    from pathlib import Path

    from jaxdet.runs import TrainConfig
    from jaxdet.runs.take_over import Taken


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="the run's folder")
    parser.add_argument(
        "--from",
        dest="source",
        metavar="RUN",
        help="start a new run from the state of another (its folder, or RUN/checkpoints/STEP), which is not changed; "
        "length, learning rate, batch size and data may differ",
    )
    parser.add_argument(
        "--replay", action="store_true", help="repeat the step with the non-finite loss and print its terms"
    )
    add_distributed_arguments(parser)


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds CONFIG and the options that change it, for all commands that need a training configuration."""
    parser.add_argument(
        "config", metavar="CONFIG", nargs="?", help="a recipe, a Python file with config(), or a HeadHunter YAML file"
    )
    parser.add_argument("--headhunter", metavar="YAML", help="one of HeadHunter's YAML files, instead of CONFIG")
    parser.add_argument(
        "--data", metavar="DIR", help="a folder with train and val sets: COCO, Pascal VOC, YOLO or one folder per class"
    )
    add_split_arguments(parser)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a field of the configuration"
    )
    add_image_arguments(parser)


def add_split_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--val-fraction`` and ``--val-seed``, which hold out images of data without a validation set."""
    parser.add_argument(
        "--val-fraction",
        type=float,
        metavar="F",
        help="hold out this fraction of the images for validation",
    )
    parser.add_argument("--val-seed", type=int, metavar="N", help="random seed of the selection (default: 0)")


def split_of(args: argparse.Namespace) -> tuple[float | None, int]:
    """The fraction and the seed of `add_split_arguments`. Raises ValueError for a seed without a fraction."""
    if args.val_seed is not None and args.val_fraction is None:
        raise ValueError("--val-seed selects the images that --val-fraction holds out: give both, or neither")
    return args.val_fraction, args.val_seed or 0


def config_of(args: argparse.Namespace, *, tell: Callable[[str], None] = print) -> TrainConfig:
    """The configuration of the arguments of `add_config_arguments`.

    Args:
        tell: called with each line about the meaning of a HeadHunter YAML file.

    Raises:
        ValueError: both or none of CONFIG and ``--headhunter`` are given, or the configuration is invalid.
    """
    from jaxdet.runs import read_config

    if (args.config is None) == (args.headhunter is None):
        raise ValueError("give either a CONFIG, or a HeadHunter YAML file with --headhunter")
    val_fraction, val_seed = split_of(args)
    return read_config(
        args.config or args.headhunter,
        parse_options(args.set),
        data=args.data,
        headhunter=args.headhunter is not None,
        val_fraction=val_fraction,
        val_seed=val_seed,
        tell=tell,
    )


def run(args: argparse.Namespace) -> int:
    from jaxdet.cli.weights import effective_config, first_model
    from jaxdet.parallel import barrier, is_first
    from jaxdet.paths import to_path
    from jaxdet.runs import Run, Stopped, open_task
    from jaxdet.runs.journal import CURVE_FILE
    from jaxdet.runs.take_over import find_checkpoint
    from jaxdet.saving.open import CHECKPOINTS
    from jaxdet.saving.stored_state import saved_steps

    given = config_of(args)
    out = to_path(args.out)
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {args.out} is a file: give a folder, which is created if it does not exist")
    if args.source is not None and not saved_steps(out / CHECKPOINTS):
        find_checkpoint(args.source)  # report a missing checkpoint before any work
    config, _ = effective_config(given)
    task = open_task(config)
    for line in task.summary():
        say(line)
    model = first_model(given, task.names, lambda line: say(f"weights     {line}"))
    session = Run(task, model, out, source=args.source)
    if session.taken is not None:
        _print_taken(args.source, session.taken)
    if args.replay:
        for name, value in session.replay().items():
            say(f"{name:<24} {value:g}")
        return 0
    if session.position:
        say(f"continuing from step {session.position} of {task.length.steps}")
    try:
        metrics = session.train()
    except Stopped as stopped:
        say(f"{stopped} of {task.length.steps}; the same command continues from there")
        return 128 + stopped.signal
    if is_first():
        _write_model(session.model(), out, torch_weights=config.torch_weights)
    say(f"loss curve  {out / CURVE_FILE}")
    if metrics:
        say("  ".join(f"{name} {metrics[name]:.3f}" for name in task.shown))
    barrier("written")  # a process that exits earlier would be taken for lost
    return 0


def _print_taken(source: str, taken: Taken) -> None:
    """Prints what a run has taken over from another."""
    say(f"from        {source}, step {taken.step}: parameters, optimizer state, moving averages and step")
    for line in taken.differences or ("nothing: the configurations and the data are the same",):
        say(f"differs     {line}")
    for line in taken.notes:
        say(f"note        {line}")


def _write_model(model: Any, out: Path, *, torch_weights: bool) -> None:
    """Writes the trained model to the run's folder."""
    from jaxdet.saving.model import save

    save(model, out / "model", overwrite=True)
    print(f"model       {out / 'model'}")
    if torch_weights:
        from jaxdet_convert import save_model

        options, _ = save_model(model, out / "model.pth", overwrite=True)
        print(f"PyTorch     {out / 'model.pth'}, with the model's options in {options.name}")

"""Compile a run for a TPU pod, without a TPU: memory, traffic, lower bounds of time, and the largest batch.

CONFIG is a recipe, a Python file as for `jaxdet train`, or the name of a model. Its data need not exist. The train and
infer steps of a run are compiled by the TPU's compiler; each compilation takes minutes. Needs libtpu:
pip install 'jaxdet[plan]'.

    jaxdet plan fasterrcnn_resnet50_fpn --topology v5e:16x16 --canvas 800x1344 --batch 8 --dtype bfloat16
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from jaxdet.cli.options import parse_options
from jaxdet.cli.train import add_config_arguments, config_of, split_of

if TYPE_CHECKING:
    from jaxdet.planning import Job, Topology
    from jaxdet.runs import TrainConfig

_IMAGES_PER_CHIP = 8  # if the number of chips does not divide the configuration's batch size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument(
        "--topology",
        required=True,
        metavar="T",
        help="TPU version and chips along each axis, such as v4:4x4x4, v5e:16x16, v5p:8x8x8 or v6e:16x16",
    )
    parser.add_argument(
        "--canvas", metavar="HxW", help="canvas of the images (default: the configuration's largest landscape canvas)"
    )
    parser.add_argument(
        "--batch", type=int, metavar="N", help="images per chip (default: the configuration's batch size / chips)"
    )
    parser.add_argument(
        "--dtype", choices=("bfloat16", "float32"), help="dtype of the computation (default: the configuration's)"
    )
    parser.add_argument("--step", choices=("train", "infer"), help="plan only this step")
    parser.add_argument("--no-search", action="store_true", help="do not search for the largest batch")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    import json
    import os

    os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX is imported; the TPU exists only for the compiler
    from jaxdet.planning import make_plan, parse_topology, to_dict, to_text

    topology = parse_topology(args.topology)
    job = job_of(args, topology)
    steps = {} if args.step is None else {"steps": (args.step,)}
    plan = make_plan(job, topology, search=not args.no_search, say=_say, **steps)
    config = args.config or args.headhunter
    print(json.dumps({"config": config, **to_dict(plan)}, indent=1) if args.json else to_text(plan))
    return 1 if any(step.problem is not None for step in plan.steps) else 0


def job_of(args: argparse.Namespace, topology: Topology) -> Job:
    """The job that the arguments describe."""
    from jaxdet.cli.weights import config_or_given
    from jaxdet.data.batching.detection_rows import box_slots
    from jaxdet.planning import Job
    from jaxdet.planning.programs import BOX_SLOTS
    from jaxdet.runs import open_task

    config, lines = config_or_given(_config(args))
    for line in lines:
        _say(f"weights: {line}")
    slots = config.max_boxes or BOX_SLOTS
    names = config.model.names
    if args.data is not None:
        task = open_task(config)
        names = task.names
        if config.max_boxes is None and hasattr(task.train, "sizes"):
            slots = box_slots(task.train)
    return Job(config, _canvas(args.canvas, config), _batch_per_chip(args.batch, config, topology), names, slots)


def _config(args: argparse.Namespace) -> TrainConfig:
    from jaxdet.config import override
    from jaxdet.data import CocoFiles, find_sources
    from jaxdet.models import list_models, model_config
    from jaxdet.runs import RECIPES, TrainConfig
    from jaxdet.runs.read import hold_out

    if args.dtype is not None:
        args.set = [*args.set, f"dtype={args.dtype}"]
    if args.headhunter or args.config in RECIPES or args.config not in list_models():
        return config_of(args, tell=_say)
    train, val = (CocoFiles("train.json", "train"), None) if args.data is None else find_sources(args.data)
    config = TrainConfig(model=model_config(args.config), train=train, val=val, steps=100_000)
    config = override(config, parse_options(args.set))
    fraction, seed = split_of(args)
    return config if fraction is None else hold_out(config, fraction, seed)


def _canvas(text: str | None, config: TrainConfig) -> tuple[int, int]:
    from jaxdet.data.batching.canvas import largest_canvas, parse_canvas

    if text is None:
        assert config.augment is not None  # set by TrainConfig
        sizing = config.augment.sizing(config.model.transform, square=config.square)  # type: ignore[arg-type]
        return largest_canvas(sizing.canvases)
    return parse_canvas(text)


def _batch_per_chip(batch: int | None, config: TrainConfig, topology: Topology) -> int:
    if batch is not None:
        if batch < 1:
            raise ValueError(f"--batch must be at least 1 image per chip, not {batch}")
        return batch
    if config.batch_size % topology.chips == 0:
        return config.batch_size // topology.chips
    _say(
        f"the configuration's batch of {config.batch_size} does not divide over {topology.chips} chips: planning "
        f"{_IMAGES_PER_CHIP} images per chip, {_IMAGES_PER_CHIP * topology.chips} in total; --batch sets another number"
    )
    return _IMAGES_PER_CHIP


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

"""Convert PyTorch or Darknet weights into a jaxdet model, and back.

jaxdet convert weights.pth                        a checkpoint of any known model, recognised by names and shapes
jaxdet convert fasterrcnn_resnet50_fpn            torchvision's official weights, from a cache or downloaded
jaxdet convert DIR --to-torch weights.pth         a jaxdet model as a PyTorch state dict with its original parameter
                                                  names, and the model's options as weights.json, which convert reads
jaxdet convert DIR --classes cat,dog --out NEW    the same model with an untrained predictor for other classes
jaxdet convert RUN/checkpoints/500 --out DIR      the model of a training run's checkpoint
jaxdet convert fasterrcnn_mobilenet_v1_fpn --backbone-weights mobilenet.tar --num-classes 4
                                                  an untrained detector with the backbone of a trained classifier
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxdet.models.registry import Model
    from jaxdet_convert import Conversion

SPELLINGS = ("new", "old", "old-rpn", "old-fpn", "old-head", "listing", "timm", "darknet")
_OPTIONS_WITH_FLAG = ("num_classes", "names", "norm_eps", "container", "fresh_predictor")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="FILE",
        help="a weights file, the name of a model, or the folder of a jaxdet model or of a training run",
    )
    parser.add_argument(
        "--model", metavar="NAME", help="the expected model; an error if the weights are of another one"
    )
    parser.add_argument("--out", metavar="DIR", help="folder of the new jaxdet model (default: FILE's name + .jaxdet)")
    parser.add_argument(
        "--num-classes", type=int, metavar="N", help="number of classes, with the background in a detector"
    )
    parser.add_argument(
        "--classes",
        metavar="C",
        help="a new predictor for these classes: names (cat,dog), a file of names, or a number (with background)",
    )
    parser.add_argument("--fresh-predictor", action="store_true", help="initialise a new predictor, for other classes")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="random seed of new parameters (default: %(default)s)"
    )
    parser.add_argument("--names", metavar="FILE", help="class names, one per line; the background is optional")
    parser.add_argument(
        "--norm-eps", type=float, metavar="E", help="eps of all norms (default: that of the weights' source)"
    )
    parser.add_argument("--container", metavar="C", help="entry of the checkpoint that has the state dict")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="options",
        help="an option of the model with its value as JSON (box_score_thresh=0.3); may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--backbone-weights",
        metavar="WEIGHTS",
        help="a classifier's weights for the backbone of a new detector; FILE is then the detector's name",
    )
    parser.add_argument(
        "--to-torch", metavar="OUT.pth", help="write a PyTorch state dict, and the model's options to OUT.json"
    )
    parser.add_argument(
        "--spelling", choices=SPELLINGS, help="parameter names of --to-torch (default: those of the model's source)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing model or state dict")


def run(args: argparse.Namespace) -> int:
    from jaxdet.models import Task
    from jaxdet.saving.model import check_free, save
    from jaxdet.saving.open import holds_model

    if args.spelling and not args.to_torch:
        raise ValueError("--spelling chooses the names in the state dict of --to-torch: give both")
    if args.classes and (args.num_classes is not None or args.names or args.fresh_predictor):
        raise ValueError("--classes creates a new predictor: leave out --num-classes, --names and --fresh-predictor")
    if holds_model(args.source):
        model, needs_training = _open_source(args), False
    else:
        model, needs_training = _new_detector(args) if args.backbone_weights else _convert(args)
    if args.classes:
        model, needs_training = _with_classes(model, args), True
    out = args.out or (None if args.to_torch else _default_name(args.source))
    if out is not None:
        check_free(out, overwrite=args.overwrite)  # before anything is written
    if args.to_torch:
        _write_torch(model, args)  # before the model: it may refuse the spelling
    if out is not None:
        save(model, out, overwrite=args.overwrite)
        print(f"written   {out}")
        command = "detect" if model.config.task is Task.DETECTION else "classify"
        print(
            "next      train it: jaxdet train --help" if needs_training else f"next      {_next_command(command, out)}"
        )
    return 0


def _default_name(source: str) -> str:
    """The default name of the model's folder: that of the source, in the current folder."""
    path = Path(source)
    return f"{path.stem if path.is_file() else path.resolve().name}.jaxdet"


def _next_command(command: str, out: str) -> str:
    return f"jaxdet {command} IMAGES --weights {out}"


def _open_source(args: argparse.Namespace) -> Model:
    """The model in a jaxdet model's or a training run's folder. Raises ValueError for arguments that do not apply."""
    from jaxdet.cli.models import open_model
    from jaxdet.saving.model import is_model

    is_plain = is_model(args.source)  # a training run's model may be copied as it is
    if is_plain and not (args.to_torch or args.classes):
        raise ValueError(
            f"{args.source} is a jaxdet model already; --to-torch OUT.pth writes a state dict, --classes changes its "
            "classes"
        )
    if not args.out and not args.to_torch:
        raise ValueError(f"{args.source}: give --out DIR for a jaxdet model, or --to-torch OUT.pth for a state dict")
    changing = {
        "--out": is_plain and not args.classes and args.out,
        "--model": args.model, "--num-classes": args.num_classes, "--names": args.names, "--norm-eps": args.norm_eps,
        "--container": args.container, "--set": args.options,
        "--fresh-predictor": args.fresh_predictor, "--backbone-weights": args.backbone_weights,
    }  # fmt: skip
    given = [name for name, value in changing.items() if value]
    if given:
        raise ValueError(f"{args.source} is a jaxdet model and is written unchanged: leave out {', '.join(given)}")
    return open_model(args.source)


def _with_classes(model: Model, args: argparse.Namespace) -> Model:
    """The model with a new predictor for the classes of ``--classes``."""
    from flax import nnx

    from jaxdet.models import with_classes

    text: str = args.classes
    classes: int | list[str]
    if text.isdecimal():
        classes = int(text)
    elif Path(text).is_file():
        from jaxdet.cli.models import read_names

        classes = read_names(text)
    elif "," not in text and (Path(text).suffix or "/" in text):
        raise FileNotFoundError(f"--classes {text}: no such file; separate names by commas")
    else:
        classes = [name.strip() for name in text.split(",")]
    model = with_classes(model, classes, rngs=nnx.Rngs(args.seed))
    print(f"classes   {model.config.num_classes}{', named' if model.config.names else ''}; the predictor is new")
    return model


def _convert(args: argparse.Namespace) -> tuple[Model, bool]:
    """The model of a weights file, and whether it has untrained parts."""
    from flax import nnx

    from jaxdet.saving.resolve import find_weights
    from jaxdet_convert import convert_weights

    source = find_weights(args.source)
    if source != args.source:
        print(f"official  {source}")
    result = convert_weights(
        source,
        args.model,
        num_classes=args.num_classes,
        norm_eps=args.norm_eps,
        names=_class_names(args),
        container=args.container,
        fresh_predictor=args.fresh_predictor,
        rngs=nnx.Rngs(args.seed),
        **_options(args.options),
    )
    _print_report(result, source)
    return result.model, args.fresh_predictor or result.bare


def _new_detector(args: argparse.Namespace) -> tuple[Model, bool]:
    """A new detector with a classifier's weights in its backbone, and True: its other parts are untrained."""
    from flax import nnx

    from jaxdet.create import create_model
    from jaxdet.models import Task
    from jaxdet.models.options import changes, model_options
    from jaxdet.saving.resolve import find_weights
    from jaxdet_convert import load_backbone

    if args.norm_eps is not None or args.fresh_predictor or args.model:
        raise ValueError("--norm-eps, --fresh-predictor and --model do not apply to --backbone-weights: leave them out")
    weights = find_weights(args.backbone_weights)
    options = _options(args.options)
    names = _class_names(args)
    if names is not None:
        options["names"] = names
        options["num_classes"] = len(names)
    if args.num_classes is not None:
        options["num_classes"] = args.num_classes
    model: Any = create_model(args.source, rngs=nnx.Rngs(args.seed), **options)
    if model.config.task is not Task.DETECTION:
        raise ValueError(
            f"--backbone-weights is for detectors: give the weights of the classifier {args.source} as FILE"
        )
    keep = {name: value for name, value in options.items() if name in model_options(model.config)}
    filled, dropped = load_backbone(model, weights, container=args.container, keep=keep)
    print(f"model     {args.source}, {filled.config.num_classes} classes, {_parameter_count(filled):,} parameters")
    print(f"backbone  from {args.backbone_weights}; dropped: {', '.join(dropped) or 'nothing'}")
    for line in changes(model.config, filled.config):
        print(f"changed   {line}, as in the weights")
    return filled, True


def _write_torch(model: Model, args: argparse.Namespace) -> None:
    from jaxdet_convert import save_model

    out = Path(args.to_torch)
    options, count = save_model(model, out, args.spelling, overwrite=args.overwrite)
    print(f"written   {out}: a state dict of {count} tensors; {options.name}: the model's options")
    print(f'next      model.load_state_dict(torch.load("{out}", weights_only=True))')


def _print_report(result: Conversion, source: str) -> None:
    from jaxdet.models import model_config
    from jaxdet_convert.options_file import options_file
    from jaxdet_convert.sources.registry import source_of

    config = result.model.config
    preset = model_config(result.name)
    read = [key for key, value in result.told.items() if model_config(result.name, **{key: value}) != preset]
    classes = "no classifier" if config.num_classes is None else f"{config.num_classes} classes"
    named = ", named" if getattr(config, "names", ()) else ""
    under = f", under {result.container!r}" if result.container else ""
    print(f"model     {result.name}, {classes}{named}, {_parameter_count(result.model):,} parameters")
    print(f"source    {result.source}{under}{f', names without {result.prefix!r}' if result.prefix else ''}")
    print(f"norms     {_norm_name(config)}, eps {result.norm_eps:g}")
    if variant := source_of(config).describe(config):
        print(f"variant   {variant}")
    for key in read:
        if not key.endswith(("norm", "num_classes")):
            print(f"read      {key} = {_shown_value(result.told[key])}")
    if result.described is not None:
        print(f"options   {options_file(source)}")
    for line in result.changed:
        print(f"changed   {line}")
    if result.assumed:
        print(f"assumed   {result.assumed} (the weights do not have these options; --set changes them)")
    if result.also:
        print(f"also      {result.also} without context fits, too; --model {result.also} chooses it")
    if result.beside:
        print(f"unused    {', '.join(result.beside)} (other entries of the file)")
    if result.dropped:
        print(f"dropped   {', '.join(result.dropped)}")
    if result.fresh:
        print(f"fresh     {', '.join(result.fresh)}")


def _norm_name(config: Any) -> str:
    return {"batch": "batch norm", "frozen": "frozen batch norm", "group": "group norm"}[
        config.backbone_config.norm.kind
    ]


def _shown_value(value: Any) -> str:
    import dataclasses

    if not dataclasses.is_dataclass(value):
        return str(value)
    return ", ".join(f"{field.name} {getattr(value, field.name)}" for field in dataclasses.fields(value))


def _parameter_count(model: Model) -> int:
    """The number of trainable parameters, as PyTorch counts them."""
    import jax
    from flax import nnx

    return sum(array.size for array in jax.tree.leaves(nnx.state(model, nnx.Param)))


def _class_names(args: argparse.Namespace) -> list[str] | None:
    if args.names is None:
        return None
    from jaxdet.cli.models import read_names
    from jaxdet.models.classes import with_background

    return list(with_background(read_names(args.names)))


def _options(given: list[str]) -> dict[str, Any]:
    """The options of ``--set``. Raises ValueError for one that has its own flag."""
    from jaxdet.cli.options import parse_options

    options = parse_options(given)
    for name in options:
        if name in _OPTIONS_WITH_FLAG:
            raise ValueError(f"--set {name}: give --{name.replace('_', '-')} instead")
    return options

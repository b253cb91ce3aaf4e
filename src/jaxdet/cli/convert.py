"""Convert PyTorch or Darknet weights into a jaxdet model, and back.

jaxdet convert weights.pth                        a checkpoint of any known model, recognised by its names and shapes
jaxdet convert fasterrcnn_resnet50_fpn            torchvision's official weights: from a cache, or downloaded
jaxdet convert DIR --to-torch weights.pth         a jaxdet model as a PyTorch state dict, in the spelling it came from,
                                                  and its options as weights.json, which convert takes up again
jaxdet convert DIR --classes cat,dog --out NEW    the same model with a new predictor for other classes, to be trained
jaxdet convert RUN/checkpoints/500 --out DIR      a model of a training run's checkpoint
jaxdet convert fasterrcnn_mobilenet_v1_fpn --backbone-weights mobilenet.tar --num-classes 4
                                                  a new detector on a trained classifier, to be trained
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxdet.models.registry import Model
    from jaxdet_convert import Conversion

SPELLINGS = ("new", "old", "old-rpn", "old-fpn", "old-head", "listing", "timm", "darknet")
_OWN_FLAGS = ("num_classes", "names", "norm_eps", "container", "fresh_predictor")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="FILE",
        help="a weights file, a model's name, or the folder of a jaxdet model or of a training run",
    )
    parser.add_argument("--model", metavar="NAME", help="which model it is, where that should be checked")
    parser.add_argument("--out", metavar="DIR", help="where the jaxdet model goes (default: FILE's name + .jaxdet)")
    parser.add_argument("--num-classes", type=int, metavar="N", help="a detector's with background")
    parser.add_argument(
        "--classes",
        metavar="C",
        help="a new predictor for these classes: names (cat,dog), a file of names, or a count (with background)",
    )
    parser.add_argument("--fresh-predictor", action="store_true", help="start the predictor anew, for other classes")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of what starts anew (default: %(default)s)")
    parser.add_argument("--names", metavar="FILE", help="class names, one a line; the background may be left out")
    parser.add_argument("--norm-eps", type=float, metavar="E", help="of all norms (default: as the weights' source)")
    parser.add_argument("--container", metavar="C", help="the entry of a checkpoint that holds the state dict")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="options",
        help="an option of the model, its value as JSON (box_score_thresh=0.3); may be repeated",
    )  # fmt: skip
    parser.add_argument("--backbone-weights", metavar="FILE", help="of a classifier, for a new detector named FILE")
    parser.add_argument(
        "--to-torch", metavar="OUT.pth", help="write a PyTorch state dict, and the model's options to OUT.json"
    )
    parser.add_argument("--spelling", choices=SPELLINGS, help="of its names (default: the one they came in)")
    parser.add_argument("--overwrite", action="store_true", help="replace a model or a state dict that is there")


def run(args: argparse.Namespace) -> int:
    from jaxdet.models import Task
    from jaxdet.saving.model import check_free, save
    from jaxdet.saving.open import holds_model

    if args.spelling and not args.to_torch:
        raise ValueError("--spelling is of the state dict that --to-torch writes: give both")
    if args.classes and (args.num_classes is not None or args.names or args.fresh_predictor):
        raise ValueError("--classes makes a new predictor: leave out --num-classes, --names and --fresh-predictor")
    if holds_model(args.source):
        model, needs_training = _opened(args), False
    else:
        model, needs_training = _new_detector(args) if args.backbone_weights else _converted(args)
    if args.classes:
        model, needs_training = _with_classes(model, args), True
    out = args.out or (None if args.to_torch else _own_name(args.source))
    if out is not None:
        check_free(out, overwrite=args.overwrite)  # before anything is written
    if args.to_torch:
        _write_torch(model, args)  # before the model, because it may refuse the spelling
    if out is not None:
        save(model, out, overwrite=args.overwrite)
        print(f"written   {out}")
        command = "detect" if model.config.task is Task.DETECTION else "classify"
        print("next      train it: jaxdet train --help" if needs_training else f"next      {_next(command, out)}")
    return 0


def _own_name(source: str) -> str:
    """Of the model, which goes to the current folder: by that of the file, folder or official weights."""
    path = Path(source)
    return f"{path.stem if path.is_file() else path.resolve().name}.jaxdet"


def _next(command: str, out: str) -> str:
    return f"jaxdet {command} IMAGES --weights {out}"


def _opened(args: argparse.Namespace) -> Model:
    from jaxdet.cli.models import open_model
    from jaxdet.saving.model import is_model

    own = is_model(args.source)  # and not a training run's, of which a copy is wanted
    if own and not (args.to_torch or args.classes):
        raise ValueError(
            f"{args.source} is a jaxdet model already; --to-torch OUT.pth writes it back, and --classes exchanges its "
            "classes"
        )
    if not args.out and not args.to_torch:
        raise ValueError(
            f"{args.source}: --out DIR says where its model goes, --to-torch OUT.pth where a state dict does"
        )
    changing = {
        "--out": own and not args.classes and args.out,
        "--model": args.model, "--num-classes": args.num_classes, "--names": args.names, "--norm-eps": args.norm_eps,
        "--container": args.container, "--set": args.options,
        "--fresh-predictor": args.fresh_predictor, "--backbone-weights": args.backbone_weights,
    }  # fmt: skip
    given = [name for name, value in changing.items() if value]
    if given:
        raise ValueError(f"{args.source} is a jaxdet model, which is written as it is: leave out {', '.join(given)}")
    return open_model(args.source)


def _with_classes(model: Model, args: argparse.Namespace) -> Model:
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
        raise FileNotFoundError(f"--classes {text}: no such file; names are separated by commas")
    else:
        classes = [name.strip() for name in text.split(",")]
    model = with_classes(model, classes, rngs=nnx.Rngs(args.seed))
    print(f"classes   {model.config.num_classes}{', named' if model.config.names else ''}; their predictor is new")
    return model


def _converted(args: argparse.Namespace) -> tuple[Model, bool]:
    """The model, and whether parts of it are new."""
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
    _report(result, source)
    return result.model, args.fresh_predictor or result.bare


def _new_detector(args: argparse.Namespace) -> tuple[Model, bool]:
    """A detector by name with a classifier's weights in its backbone; its other parts are new."""
    from flax import nnx

    from jaxdet.create import create_model
    from jaxdet.models import Task
    from jaxdet.models.options import changes, model_options
    from jaxdet.saving.resolve import find_weights
    from jaxdet_convert import load_backbone

    if args.norm_eps is not None or args.fresh_predictor or args.model:
        raise ValueError("--norm-eps, --fresh-predictor and --model are of weights that are converted whole")
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
        raise ValueError(f"--backbone-weights is for a detector, and {args.source} is a classifier: give it as FILE")
    keep = {name: value for name, value in options.items() if name in model_options(model.config)}
    filled, dropped = load_backbone(model, weights, container=args.container, keep=keep)
    print(f"model     {args.source}, {filled.config.num_classes} classes, {_count(filled):,} parameters")
    print(f"backbone  from {args.backbone_weights}; dropped: {', '.join(dropped) or 'nothing'}")
    for line in changes(model.config, filled.config):
        print(f"follows   {line}, as in the weights")
    return filled, True


def _write_torch(model: Model, args: argparse.Namespace) -> None:
    from jaxdet_convert import save_model

    out = Path(args.to_torch)
    options, count = save_model(model, out, args.spelling, overwrite=args.overwrite)
    print(f"written   {out}: a state dict of {count} tensors; beside it {options.name}: the model's options")
    print(f'next      model.load_state_dict(torch.load("{out}", weights_only=True))')


def _report(result: Conversion, source: str) -> None:
    from jaxdet.models import model_config
    from jaxdet_convert.options_file import options_file
    from jaxdet_convert.sources.registry import source_of

    config = result.model.config
    preset = model_config(result.name)
    told = [key for key, value in result.told.items() if model_config(result.name, **{key: value}) != preset]
    classes = "no classifier" if config.num_classes is None else f"{config.num_classes} classes"
    named = ", named" if getattr(config, "names", ()) else ""
    under = f", under {result.container!r}" if result.container else ""
    print(f"model     {result.name}, {classes}{named}, {_count(result.model):,} parameters")
    print(f"source    {result.source}{under}{f', names without {result.prefix!r}' if result.prefix else ''}")
    print(f"norms     {_norm_kind(config)}, eps {result.norm_eps:g}")
    if variant := source_of(config).describe(config):
        print(f"variant   {variant}")
    for key in told:
        if not key.endswith(("norm", "num_classes")):
            print(f"told      {key} = {_short(result.told[key])}")
    if result.described is not None:
        print(f"options   {options_file(source)}, beside the weights")
    for line in result.changed:
        print(f"changed   {line}")
    if result.assumed:
        print(f"assumed   {result.assumed} (--set changes what the weights do not say)")
    if result.also:
        print(f"also      {result.also} without context has the same names: --model {result.also} takes it for that")
    if result.beside:
        print(f"beside    {', '.join(result.beside)} (left in the file)")
    if result.dropped:
        print(f"dropped   {', '.join(result.dropped)}")
    if result.fresh:
        print(f"fresh     {', '.join(result.fresh)}")


def _norm_kind(config: Any) -> str:
    return {"batch": "batch norm", "frozen": "frozen batch norm", "group": "group norm"}[
        config.backbone_config.norm.kind
    ]


def _short(value: Any) -> str:
    import dataclasses

    if not dataclasses.is_dataclass(value):
        return str(value)
    return ", ".join(f"{field.name} {getattr(value, field.name)}" for field in dataclasses.fields(value))


def _count(model: Model) -> int:
    """Numbers that train, as PyTorch counts parameters."""
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
    """The options of ``--set``, of which none has a flag of its own."""
    from jaxdet.cli.options import parse_options

    options = parse_options(given)
    for name in options:
        if name in _OWN_FLAGS:
            raise ValueError(f"--set {name}: give --{name.replace('_', '-')} instead")
    return options

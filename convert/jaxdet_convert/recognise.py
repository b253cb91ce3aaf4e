"""Which model some weights are of, from their names and shapes alone."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxdet.config import nearest
from jaxdet.models import list_models
from jaxdet_convert.read.darknet_file import DarknetLayer
from jaxdet_convert.recognise_body import Body, RecognitionError, Shapes, norm_config, recognise_body
from jaxdet_convert.recognise_headhunter import (
    LATERAL,
    RETINAFACE_HEADS,
    backbone_blocks,
    headhunter_name,
    headhunter_options,
    is_headhunter,
)
from jaxdet_convert.rules import Template
from jaxdet_convert.tables import BARE_SPELLINGS, OLD_SPELLINGS, darknet_layers

BODY = "backbone.body."
_FPN, _RPN, _BOX = "backbone.fpn.", "rpn.head.", "roi_heads.box_head."
_DETECTORS = {
    "resnet": "fasterrcnn_resnet50_fpn",
    "mobilenet": "fasterrcnn_mobilenet_v1_fpn",
    "darknet": "fasterrcnn_darknet53_fpn",
}
_DETECTOR_NAMES = ("fasterrcnn_", "headhunter_")
_SHOWN = 6  # names in an error message


@dataclass(frozen=True)
class Recognised:
    """A model's name and those of its options that the weights tell.

    Attributes:
        origin: whose names these are and in which spelling, as `jaxdet_convert.to_torch` takes it up again.
        num_anchors: a location; 0: untold; None: it is no detector.
        bare: a detector's body, pyramid and context alone.
        also: another model whose weights have the same names and shapes, to be said by its name.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    origin: tuple[str, ...] = ()
    num_anchors: int | None = None
    bare: bool = False
    also: str | None = None

    @property
    def is_detector(self) -> bool:
        return self.num_anchors is not None


def recognise(shapes: Shapes, name: str | None = None) -> Recognised:
    """The model that weights of these names and shapes are of.

    Args:
        shapes: {PyTorch name: shape}, old and new spellings alike.
        name: which model it should be, if that is known. Weights of no known kind are then taken for that model's, so
            that the strict application names all that is wrong with them.

    Raises:
        RecognitionError: it is no model of this library, or another one than ``name``.
    """
    _check_name(name)
    modern = {_modern(key): tuple(shape) for key, shape in shapes.items()}
    inner = {key.removeprefix(BODY): shape for key, shape in modern.items() if key.startswith(BODY)}
    try:
        body = recognise_body(inner or modern)
    except RecognitionError as error:
        raise RecognitionError(f"these weights are of {error}") from None
    if body is None and name is not None:
        return Recognised(name, num_anchors=0 if name.startswith(_DETECTOR_NAMES) else None)
    if body is None:
        raise RecognitionError(
            f"these weights are of no model that is known here: {_seen(inner or modern)}. "
            f"Known: {', '.join(list_models())}"
        )
    found = _detector(modern, body, _spelling(shapes), name) if inner else _classifier(body)
    if name is not None and name != found.name:
        raise RecognitionError(_contradiction(name, found))
    return found


def darknet53_layers(numbers: int) -> Sequence[DarknetLayer]:
    """The layers of a Darknet-53 file with this many numbers, whatever the count of its classes.

    Raises:
        RecognitionError: no count of classes gives that many.
    """
    body = sum(layer.numbers for layer in darknet_layers(1)[:-1])
    per_class = darknet_layers(1)[-1].numbers
    classes, rest = divmod(numbers - body, per_class)
    if rest or classes < 0:
        raise RecognitionError(
            f"{numbers:,} numbers are not Darknet-53's, which has {body:,} and {per_class:,} more a class. "
            "Of another network built on it, cut the file after its 52 backbone convolutions"
        )
    return darknet_layers(classes or 1)


def _check_name(name: str | None) -> None:
    if name is not None and name not in list_models():
        known = list_models()
        raise RecognitionError(f"unknown model {name!r}; known: {', '.join(known)}{nearest(name, known)}")


def _modern(name: str) -> str:
    spellings = (*OLD_SPELLINGS, *BARE_SPELLINGS)
    return next((new for spelling in spellings if (new := spelling.modern(name)) is not None), name)


def _spelling(shapes: Shapes) -> str:
    rpn, fpn = (any(spelling.modern(name) for name in shapes) for spelling in OLD_SPELLINGS)
    return {(False, False): "new", (True, True): "old", (True, False): "old-rpn", (False, True): "old-fpn"}[rpn, fpn]


def _seen(shapes: Shapes) -> str:
    shown = ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:_SHOWN])
    return f"{len(shapes)} tensors ({shown}{', ...' if len(shapes) > _SHOWN else ''})"


def _contradiction(name: str, found: Recognised) -> str:
    classes = f" ({found.options['num_classes']} classes)" if found.options.get("num_classes") else ""
    text = f"these weights are of {found.name!r}{classes}, and not of {name!r}"
    if name.startswith(_DETECTOR_NAMES) and not found.is_detector:
        return f"{text}: they can fill a detector's backbone (load_backbone, or --backbone-weights)"
    return f"{text}: leave the name out, or give {found.name!r}"


def _classifier(body: Body) -> Recognised:
    return Recognised(body.name, {**body.options, "num_classes": body.num_classes}, (body.source,))


def _detector(shapes: Shapes, body: Body, spelling: str, wanted: str | None) -> Recognised:
    # One missing tensor leaves the kind plain, and is for the strict application to name.
    missing = [part for part in (_FPN, _RPN, "roi_heads.box_") if not any(name.startswith(part) for name in shapes)]
    bare = _is_bare(shapes)
    if missing and not bare:
        others = {name: shape for name, shape in shapes.items() if not name.startswith(BODY)}
        raise RecognitionError(
            f"these weights have the body of a {body.name}, but are of no Faster R-CNN with a pyramid: there is "
            f"nothing under {', '.join(missing)}; beside the body there are {_seen(others)}"
        )
    options: dict[str, Any] = {f"backbone_{key}": value for key, value in body.options.items()}
    if body.num_classes is not None:
        options["backbone_num_classes"] = body.num_classes
    if "transform" in body.options:
        options["image_mean"] = body.options["transform"].image_mean
        options["image_std"] = body.options["transform"].image_std
    score = shapes.get("roi_heads.box_predictor.cls_score.weight")
    if score is not None:
        options["num_classes"] = score[0]
    laterals = _numbered(shapes, rf"{re.escape(_FPN)}inner_blocks\.(\d+)\.0\.weight")
    outputs = _numbered(shapes, rf"{re.escape(_FPN)}layer_blocks\.(\d+)\.0\.weight")
    if LATERAL.format(1) in shapes:
        laterals = outputs = [shapes[name] for number in (1, 2, 3) if (name := LATERAL.format(number)) in shapes]
    levels = _levels(body, [shape[1] for shape in laterals]) if len(laterals) == len(outputs) else None
    width = outputs[0][0] if outputs else 256
    if outputs:
        options["fpn_out_channels"] = width
    box = {} if bare else _box_head(shapes, width)
    logits = shapes.get(f"{_RPN}cls_logits.weight")
    origin = ("torchvision", spelling, *([body.source] if body.name.startswith("darknet") else []))
    anchors = 0 if logits is None else logits[0]

    headhunter = headhunter_name(body)
    if is_headhunter(shapes) or (headhunter is not None and wanted == headhunter):
        if headhunter is None:
            raise RecognitionError(
                f"a HeadHunter on a {body.name}, where this library has it on ResNets and MobileNets"
            )
        options |= headhunter_options(shapes) | backbone_blocks(body, headhunter)
        box.pop("box_conv_layers", None)
        if levels is not None:
            options["return_layers"] = levels
        return Recognised(headhunter, options | box, origin, anchors, bare)

    if levels is not None:
        options["fpn_levels"] = levels
    normed = [name for name in shapes if re.match(rf"{re.escape(_FPN)}\w+\.\d+\.1\.", name)]
    options["fpn_norm"] = norm_config(normed) if normed else None
    depth = len(_numbered(shapes, rf"{re.escape(_RPN)}conv\.(\d+)\.0\.weight"))
    options["rpn_conv_depth"] = max(depth, 1)
    kind = next(kind for kind in _DETECTORS if body.name.startswith(kind))
    name = _DETECTORS[kind]
    special = bool(normed or depth > 1 or box.get("box_conv_layers"))
    if kind == "resnet":
        options |= backbone_blocks(body, name)
        name += "_v2" if special else ""
    # Without context and upscaling, a HeadHunter of four levels has torchvision's names.
    also = headhunter if kind == "resnet" and not special and levels is not None and len(levels) == 4 else None
    return Recognised(name, options | box, origin, anchors, bare, also)


def _is_bare(shapes: Shapes) -> bool:
    """Whether there is a body and a pyramid, with context modules or RetinaFace's heads at most."""
    heads = [Template(text) for text in RETINAFACE_HEADS]
    others = [name for name in shapes if not name.startswith("backbone.")]
    known = all(any(head.match(name) for head in heads) for name in others)
    return known and any(name.startswith(_FPN) for name in shapes)


def _levels(body: Body, channels: list[int]) -> tuple[str, ...]:
    """The maps that the pyramid stands on: those of its laterals' channels, which grow from map to map."""
    levels = [level for level, width in body.channels.items() if width in channels]
    if [body.channels[level] for level in levels] != channels:
        known = ", ".join(f"{level} {width}" for level, width in body.channels.items())
        raise RecognitionError(f"the pyramid's laterals take {channels} channels, where the {body.name} has {known}")
    return tuple(levels)


def _box_head(shapes: Shapes, width: int) -> dict[str, Any]:
    convs = _numbered(shapes, rf"{re.escape(_BOX)}(\d+)\.0\.weight")
    first = f"{_BOX}{len(convs) + 1}.weight" if convs else f"{_BOX}fc6.weight"  # after nn.Flatten
    options: dict[str, Any] = {"box_conv_layers": tuple(shape[0] for shape in convs)}
    if convs:
        options["box_norm"] = norm_config([name for name in shapes if re.match(rf"{re.escape(_BOX)}\d+\.1\.", name)])
    if (shape := shapes.get(first)) is not None:
        options["box_representation_size"] = shape[0]
        side = math.isqrt(shape[1] // (convs[-1][0] if convs else width))
        options["box_output_size"] = max(side, 1)
    return options


def _numbered(shapes: Shapes, pattern: str) -> list[tuple[int, ...]]:
    """The shapes of names with one number, by it."""
    found = {int(match[1]): shape for name, shape in shapes.items() if (match := re.fullmatch(pattern, name))}
    return [found[number] for number in sorted(found)]

"""Training runs from HeadHunter's YAML files, with notes on keys that the original ignores or confuses."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jaxdet.config import nearest
from jaxdet.data import Augmentation, BrightnessContrast, DataError, HeadList, RGBShift
from jaxdet.data.formats.head_list import read_head_list
from jaxdet.data.statistics import MOST_IMAGES, mean_and_std
from jaxdet.models import FasterRCNNConfig, detector_config
from jaxdet.runs.config import TrainConfig
from jaxdet.runs.headhunter_yaml import HeadHunterYaml
from jaxdet.training import OptimizerConfig

# For each backbone name of the original, in lower case: our preset, and the weights of the backbone.
BACKBONES = {
    "resnet50": ("headhunter_resnet50", "resnet50_v1"),
    "resnet152": ("headhunter_resnet152", "resnet152_v1"),
    "mobilenet0.25": ("headhunter_mobilenet", None),
    "mobilenet": ("headhunter_mobilenet", None),
}
BENCHMARKS = ("ScutHead", "CrowdHuman", "CHuman", "Combined")
CONTEXTS = ("ssh", "cpm", "deform_ssh")
_WARMUP_STEPS, _WARMUP_FACTOR = 1000, 1e-3  # as in torchvision's reference and the original
_WORKERS = 4

Note = Callable[[str, str], None]  # called with a key and a note on it


@dataclass(frozen=True)
class HeadHunterRun:
    """A training run; ``notes``: what differs from the original, one line each."""

    config: TrainConfig
    notes: tuple[str, ...]


def read_headhunter(file: str | Path) -> HeadHunterRun:
    """Reads the training run of a YAML file of the original.

    As in the original, lists and images are relative to ``base_path``, and ``pretrained_model`` is relative to the
    working directory.

    Raises:
        ValueError: an unknown key or value, or a missing list; the message has the line.
    """
    given = HeadHunterYaml(file)
    notes: list[str] = []

    def note(key: str, text: str) -> None:
        notes.append(f"{given.place(key)}: {key}: {text}")

    train, val = (_list(given, key) for key in ("train", "valid"))
    assert train is not None
    model = _model(given, train, note)
    steps = max(1, _count_images(train) // given["batch_size"])
    weights, backbone_weights = _weights(given, note)
    config = TrainConfig(
        model=model,
        train=train,
        val=val,
        epochs=_epochs(given),
        batch_size=given["batch_size"],
        optimizer=_optimizer(given, steps, note),
        augment=Augmentation(
            flip=0.5,
            min_sizes=tuple(given["min_size"]) if isinstance(given["min_size"], list) else (),
            extra=(RGBShift(), BrightnessContrast()),
        ),
        weights=weights,
        backbone_weights=backbone_weights,
        skip_faulty=True,
        workers=_WORKERS,
        eval_every=given["eval_every"] if val is not None else None,
        metrics="crowd",
    )
    _note_the_rest(given, note)
    return HeadHunterRun(config, tuple(notes))


def _list(given: HeadHunterYaml, key: str) -> HeadList | None:
    base = given["base_path"]
    if _is_placeholder(base):
        raise given.error("base_path", f"is still {base!r}; replace it by the folder of the lists and their images")
    if not os.path.isdir(base):
        raise given.error("base_path", f"is {base}, which does not exist; give the folder of the lists")
    if not given[key] and key == "valid":
        return None
    path = os.path.join(base, given[key])
    if not os.path.isfile(path):
        raise given.error(key, f"is {given[key]}, but {path} does not exist; correct it, or base_path")
    return HeadList(path, base)


def _count_images(source: HeadList) -> int:
    return len(read_head_list(source.file)[0])


def _model(given: HeadHunterYaml, train: HeadList, note: Note) -> FasterRCNNConfig:
    backbone = given["backbone"].lower()
    if backbone not in BACKBONES:
        text = f"is {given['backbone']!r}; expected {', '.join(BACKBONES)}{nearest(backbone, BACKBONES)}"
        raise given.error("backbone", text)
    if backbone != "resnet50":
        note("backbone", f"the original ignores this and trains a ResNet-50; this run uses {given['backbone']}")
    context = (given["context"] or "").lower()
    if context and context not in CONTEXTS:
        hint = nearest(context, CONTEXTS)
        raise given.error("context", f"is {given['context']!r}; expected {', '.join(CONTEXTS)}, or nothing{hint}")
    if given["benchmark"] not in BENCHMARKS:
        hint = nearest(given["benchmark"], BENCHMARKS)
        raise given.error("benchmark", f"is {given['benchmark']!r}; expected {', '.join(BENCHMARKS)}{hint}")
    if not given["median_anchors"]:
        note("benchmark", "has no effect without median_anchors: the anchors have torchvision's sizes, 32 to 256")
    if given["use_deform"]:
        note("use_deform", 'has no effect, as in the original; context: "deform_ssh" gives deformable convolutions')
    ohem = None if type(given["ohem"]) is bool else given["ohem"]
    if given["ohem"] is True:
        note(
            "ohem",
            "True has no effect, as in the original, which keeps all proposals; a number keeps that many of the "
            "hardest proposals of each image",
        )
    sizes = given["min_size"]
    mean, std = _mean_std(given, train, note)
    return detector_config(
        BACKBONES[backbone][0],
        context=context or None,
        default_filter=False,
        median_anchors=given["benchmark"] if given["median_anchors"] else False,
        custom_sampling=given["custom_sampling"],
        soft_nms=given["soft_nms"],
        ohem=ohem,
        upscale_rpn=given["upscale_rpn"],
        preset="train",
        min_size=sizes[-1] if isinstance(sizes, list) else sizes,
        max_size=given["max_size"],
        image_mean=mean,
        image_std=std,
    )


def _mean_std(given: HeadHunterYaml, train: HeadList, note: Note) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if given["mean_std"] is not None:
        note(
            "mean_std",
            "is saved with the model and used in evaluation and detection; the original's test.py uses ImageNet's "
            "values instead",
        )
        mean, std = (tuple(value / 255 for value in values) for values in given["mean_std"])
        return mean, std
    assert train.root is not None
    paths = [os.path.join(train.root, image.path) for image in read_head_list(train.file)[0]]
    try:
        mean, std = mean_and_std(paths)
    except DataError as error:
        raise given.error("mean_std", f"is empty, and it cannot be computed: {error}") from None
    shown = [", ".join(f"{value * 255:.2f}" for value in values) for values in (mean, std)]
    note(
        "mean_std",
        f"is empty and computed from {min(len(paths), MOST_IMAGES)} training images: [[{shown[0]}], [{shown[1]}]]; "
        "the original fails here (swapped arguments, no division by 255)",
    )
    return mean, std


def _epochs(given: HeadHunterYaml) -> int:
    epochs = given["max_epoch"] - given["start_epoch"] + 1  # both inclusive
    if epochs < 1:
        raise given.error("start_epoch", f"is {given['start_epoch']}, which is after max_epoch {given['max_epoch']}")
    return epochs


def _optimizer(given: HeadHunterYaml, steps: int, note: Note) -> OptimizerConfig:
    rate, momentum = given["learning_rate"], given["momentum"]
    if momentum != rate:
        note(
            "momentum",
            f"is {momentum:g}; the original uses learning_rate, {rate:g}, as momentum, so that its steps are "
            f"{_relative_length(rate, momentum)}; --set optimizer_momentum={rate:g} does the same",
        )
    passed = max(0, given["start_epoch"] - 1)
    warmup_steps = 0 if passed else min(_WARMUP_STEPS, steps - 1)
    if warmup_steps and given["start_epoch"] > 0:
        note(
            "start_epoch",
            f"is {given['start_epoch']}; the original warms up only in an epoch 0, and thus not at all; this run warms "
            f"up over the first {warmup_steps} steps; --set optimizer_warmup_steps=0 does not",
        )
    marks = given["milestones"]
    if passed:
        reached = [mark for mark in marks if mark <= passed]
        rate *= given["gamma"] ** len(reached)
        marks = [mark - passed for mark in marks if mark > passed]
        note(
            "start_epoch",
            f"is {given['start_epoch']}; the original restarts its schedule; this run continues it after "
            f"{len(reached)} milestones, with learning rate {rate:g}",
        )
    return OptimizerConfig(
        kind="sgd",
        learning_rate=rate,
        momentum=momentum,
        weight_decay=given["weight_decay"],
        milestones=tuple(marks),
        gamma=given["gamma"],
        warmup_steps=warmup_steps,
        warmup_factor=_WARMUP_FACTOR,
    )


def _relative_length(rate: float, momentum: float) -> str:
    """Compares the lengths of steps with momentum ``rate`` and ``momentum``: 1 / (1 - momentum) in the long run."""
    if not (rate < 1 and momentum < 1):
        return "of another length"
    factor = (1 - rate) / (1 - momentum)
    return f"{factor:.3g} times shorter" if factor > 1 else f"{1 / factor:.3g} times longer"


def _weights(given: HeadHunterYaml, note: Note) -> tuple[str | None, str | None]:
    """(weights of the whole model, weights of the backbone only), each None if there are none."""
    stored = given["pretrained_model"]
    if stored and _is_placeholder(stored):
        note("pretrained_model", f"{stored!r} is a placeholder and treated as empty")
        stored = None
    if not stored:
        official = BACKBONES[given["backbone"].lower()][1]
        if official is not None:
            note("pretrained_model", f"is empty: the backbone starts from ImageNet's {official}, as in the original")
        return None, official
    if given["only_backbone"]:
        note("only_backbone", f"backbone, FPN and context modules are filled from {stored}")
        return None, stored
    note(
        "upscale_rpn",
        f"is {given['upscale_rpn']}; if {stored} was trained with other values of upscale_rpn and context, those are "
        "used. In the original, pre-training upscales and fine-tuning does not, so that these weights do not load",
    )
    return stored, None


def _note_the_rest(given: HeadHunterYaml, note: Note) -> None:
    if given["save_dir"] or given["log_dir"] or given["exp_name"]:
        note("save_dir", "has no effect, nor have log_dir and exp_name: --out is the folder of all files")
    note("batch_size", f"is {given['batch_size']} images over all devices; in the original it is per process")
    note(
        "train",
        "boxes with a negative flag are ignored; in the original they are background, as with "
        "--set train_negatives=background",
    )
    note("train", "images without a head are used as they are; the original adds a box of 2 x 2 px")
    note("train", "is shuffled in every epoch; with several processes the original keeps one order")
    note("train", "boxes without area are left out, and boxes are clipped to their images, as in the original")
    if given["valid"]:
        note(
            "eval_every",
            f"evaluation is after every {given['eval_every']} epochs and at the end, on all images of valid; the "
            "original evaluates before an epoch, and leaves out incomplete batches",
        )


def _is_placeholder(text: str) -> bool:
    return text.startswith("<") and text.endswith(">")

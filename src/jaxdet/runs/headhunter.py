"""A HeadHunter YAML file as a training run; what the original ignored or swapped is told, a line each."""

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

# The name of each backbone in the original, in lower case: our preset, and the weights its backbone starts from.
BACKBONES = {
    "resnet50": ("headhunter_resnet50", "resnet50_v1"),
    "resnet152": ("headhunter_resnet152", "resnet152_v1"),
    "mobilenet0.25": ("headhunter_mobilenet", None),
    "mobilenet": ("headhunter_mobilenet", None),
}
BENCHMARKS = ("ScutHead", "CrowdHuman", "CHuman", "Combined")
CONTEXTS = ("ssh", "cpm", "deform_ssh")
_WARMUP_STEPS, _WARMUP_FACTOR = 1000, 1e-3  # of torchvision's reference, which the original has from there
_WORKERS = 4

Note = Callable[[str, str], None]  # of a key, and what is to be told about it


@dataclass(frozen=True)
class HeadHunterRun:
    """notes: what a user of the original would not expect, a line each."""

    config: TrainConfig
    notes: tuple[str, ...]


def read_headhunter(file: str | Path) -> HeadHunterRun:
    """The training run that a YAML file of the original stands for.

    Lists and images are looked for under ``base_path``, ``pretrained_model`` where the command runs, as there.

    Raises:
        ValueError: with its line, a key or a value is not known, or a list is not there.
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
    _tell_of_the_rest(given, note)
    return HeadHunterRun(config, tuple(notes))


def _list(given: HeadHunterYaml, key: str) -> HeadList | None:
    base = given["base_path"]
    if _is_placeholder(base):
        raise given.error(
            "base_path", f"is still {base!r}; put the folder there that the lists and their images lie in"
        )
    if not os.path.isdir(base):
        raise given.error("base_path", f"is {base}, and there is no such folder; give the one that the lists lie in")
    if not given[key] and key == "valid":
        return None
    path = os.path.join(base, given[key])
    if not os.path.isfile(path):
        raise given.error(key, f"is {given[key]}, and there is no {path}; correct it, or base_path")
    return HeadList(path, base)


def _count_images(source: HeadList) -> int:
    return len(read_head_list(source.file)[0])


def _model(given: HeadHunterYaml, train: HeadList, note: Note) -> FasterRCNNConfig:
    backbone = given["backbone"].lower()
    if backbone not in BACKBONES:
        text = f"is {given['backbone']!r}; known are {', '.join(BACKBONES)}{nearest(backbone, BACKBONES)}"
        raise given.error("backbone", text)
    if backbone != "resnet50":
        note("backbone", f"the original ignores it and trains a ResNet-50; here it is a {given['backbone']}")
    context = (given["context"] or "").lower()
    if context and context not in CONTEXTS:
        hint = nearest(context, CONTEXTS)
        raise given.error("context", f"is {given['context']!r}; known are {', '.join(CONTEXTS)}, or nothing{hint}")
    if given["benchmark"] not in BENCHMARKS:
        hint = nearest(given["benchmark"], BENCHMARKS)
        raise given.error("benchmark", f"is {given['benchmark']!r}; known are {', '.join(BENCHMARKS)}{hint}")
    if not given["median_anchors"]:
        note("benchmark", "without median_anchors it has no effect: the anchors have torchvision's sizes, 32 to 256")
    if given["use_deform"]:
        note("use_deform", 'the original ignores it, and so does jaxdet; context: "deform_ssh" is what deforms')
    ohem = None if type(given["ohem"]) is bool else given["ohem"]
    if given["ohem"] is True:
        note(
            "ohem",
            "the original keeps every proposal, which mines nothing, and so does jaxdet; a number in place of True "
            "keeps so many of the hardest of each image",
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
            "kept with the model, so that evaluation and detection normalise alike; the original's test.py takes "
            "ImageNet's numbers instead",
        )
        mean, std = (tuple(value / 255 for value in values) for values in given["mean_std"])
        return mean, std
    assert train.root is not None
    paths = [os.path.join(train.root, image.path) for image in read_head_list(train.file)[0]]
    try:
        mean, std = mean_and_std(paths)
    except DataError as error:
        raise given.error("mean_std", f"is empty, and computing it failed: {error}") from None
    shown = [", ".join(f"{value * 255:.2f}" for value in values) for values in (mean, std)]
    note(
        "mean_std",
        f"empty, where the original fails (its arguments are swapped, and it leaves out the division by 255); computed "
        f"from {min(len(paths), MOST_IMAGES)} training images: [[{shown[0]}], [{shown[1]}]]",
    )
    return mean, std


def _epochs(given: HeadHunterYaml) -> int:
    epochs = given["max_epoch"] - given["start_epoch"] + 1  # both are trained
    if epochs < 1:
        raise given.error("start_epoch", f"is {given['start_epoch']}, after max_epoch {given['max_epoch']}")
    return epochs


def _optimizer(given: HeadHunterYaml, steps: int, note: Note) -> OptimizerConfig:
    rate, momentum = given["learning_rate"], given["momentum"]
    if momentum != rate:
        note(
            "momentum",
            f"{momentum:g}; the original takes learning_rate, {rate:g}, in its place, so that a step was "
            f"{_shorter(rate, momentum)}; --set optimizer_momentum={rate:g} is its value",
        )
    passed = max(0, given["start_epoch"] - 1)
    warmup_steps = 0 if passed else min(_WARMUP_STEPS, steps - 1)
    if warmup_steps and given["start_epoch"] > 0:
        note(
            "start_epoch",
            f"{given['start_epoch']}; the original warms up in an epoch 0 only, so that it never did; here the "
            f"learning rate grows over the first {warmup_steps} steps; --set optimizer_warmup_steps=0 leaves that out",
        )
    marks = given["milestones"]
    if passed:
        behind = [mark for mark in marks if mark <= passed]
        rate *= given["gamma"] ** len(behind)
        marks = [mark - passed for mark in marks if mark > passed]
        note(
            "start_epoch",
            f"{given['start_epoch']}; the original begins its schedule anew; here it goes on, with {len(behind)} "
            f"milestones behind it: learning rate {rate:g}",
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


def _shorter(rate: float, momentum: float) -> str:
    """What a small momentum means for the length of a step in the long run, 1 / (1 - momentum)."""
    if not (rate < 1 and momentum < 1):
        return "another"
    factor = (1 - rate) / (1 - momentum)
    return f"{factor:.3g} times shorter" if factor > 1 else f"{1 / factor:.3g} times longer"


def _weights(given: HeadHunterYaml, note: Note) -> tuple[str | None, str | None]:
    """(weights of the whole model, weights of its backbone alone); None where a run starts from none."""
    stored = given["pretrained_model"]
    if stored and _is_placeholder(stored):
        note("pretrained_model", f"{stored!r} is a placeholder and counts as empty")
        stored = None
    if not stored:
        official = BACKBONES[given["backbone"].lower()][1]
        if official is not None:
            note("pretrained_model", f"empty: the backbone starts from ImageNet's {official}, as the original's does")
        return None, official
    if given["only_backbone"]:
        note("only_backbone", f"{stored} fills the backbone, FPN and context modules that it has, strictly")
        return None, stored
    note(
        "upscale_rpn",
        f"{given['upscale_rpn']}; where {stored} was trained otherwise, it decides (the context, too): the original's "
        "pre-training upscales and its fine-tuning does not, so that one does not load into the other there",
    )
    return stored, None


def _tell_of_the_rest(given: HeadHunterYaml, note: Note) -> None:
    if given["save_dir"] or given["log_dir"] or given["exp_name"]:
        note("save_dir", "with log_dir and exp_name without effect: --out names the folder of everything")
    note("batch_size", f"{given['batch_size']} images over all devices; the original takes as many for each process")
    note(
        "train",
        "boxes of negative flag are neither object nor background; the original takes them for background, as does "
        "--set train_negatives=background",
    )
    note("train", "images without a head are trained on as they are; the original puts a box of 2 x 2 px on them")
    note("train", "is shuffled anew in every epoch; several processes of the original keep one order")
    note("train", "boxes without area are left out, and those that reach out of their images clipped, as there")
    if given["valid"]:
        note(
            "eval_every",
            f"after every {given['eval_every']} epochs and at the end, on all of valid; the original evaluates before "
            "an epoch, and leaves out what fills no batch",
        )


def _is_placeholder(text: str) -> bool:
    return text.startswith("<") and text.endswith(">")

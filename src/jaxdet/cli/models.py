"""Opening models, image files and lists of names, for several commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxdet.backbones import Backbone
from jaxdet.data.image_files import find_images
from jaxdet.data.images import IMAGE_SUFFIXES
from jaxdet.models import Detector, Model, Task
from jaxdet.parallel import is_first
from jaxdet.paths import read_lines
from jaxdet.saving import resolve

OFFICIAL = "fasterrcnn_resnet50_fpn"


def open_model(weights: str | None, *, config: str | None = None) -> Model:
    """Opens a model. If there is a choice, as in a run's folder, the chosen one is printed on standard error.

    Args:
        weights: the folder of a jaxdet model or of a training run, a weights file, or the name of official weights;
            by default the official COCO model.
        config: a training configuration that defines the model's custom backbone.
    """
    return open_weights(OFFICIAL if weights is None else weights, backbone=_backbone(config))


def open_weights(weights: str, *, backbone: Backbone | None = None) -> Model:
    """`jaxdet.saving.resolve.open_weights`, which prints its messages on standard error."""

    def say(line: str) -> None:
        if is_first():
            print(line, file=sys.stderr, flush=True)

    return resolve.open_weights(weights, backbone=backbone, say=say)


def open_detector(weights: str | None, *, config: str | None = None) -> Detector:
    """`open_model` for detectors. Raises ValueError for classifiers."""
    model: Any = open_model(weights, config=config)
    if model.config.task is not Task.DETECTION:
        raise ValueError(f"{weights} is a {type(model).__name__}, not a detector; use jaxdet classify")
    return model


def _backbone(config: str | None) -> Backbone | None:
    """The custom backbone of a training configuration, without arrays; None if it has none."""
    if config is None:
        return None
    from flax import nnx

    from jaxdet.runs import read_config
    from jaxdet.runs.start import numerics_of

    run = read_config(config)
    make = run.backbone
    return None if make is None else nnx.eval_shape(lambda: make(numerics=numerics_of(run), rngs=nnx.Rngs(0)))


def image_files(paths: Sequence[str]) -> list[Path]:
    """The given files and all images in the given folders, in order, without duplicates.

    Hidden and system files in folders are left out, with a line on standard error.

    Raises:
        ValueError: a path does not exist, or a folder has no images.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            members = find_images(path)
            for fault in members.skipped_faults():
                print(fault, file=sys.stderr)
            if not members.paths:
                raise ValueError(f"{path}: no images in this folder ({', '.join(IMAGE_SUFFIXES)})")
            found.update(dict.fromkeys(map(Path, members.paths)))
        elif path.is_file():
            found[path] = None
        else:
            raise ValueError(f"{path}: no such file or folder")
    return list(found)


def read_names(file: str) -> list[str]:
    """The class names in a text file, one per line, without empty lines.

    Raises:
        ValueError: the file is not text, or has no names.
    """
    try:
        names = [line.strip() for line in read_lines(file) if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not a text file in UTF-8 ({error.reason} at byte {error.start})") from None
    if not names:
        raise ValueError(f"{file} has no class names: write one per line")
    return names

"""What several commands do with models, image files and lists of names."""

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
    """The model of a jaxdet model's or a training run's folder, of a weights file, or of official weights by name.

    Without any, the official COCO model. Where there is a choice, as in a run's folder, what is taken is printed on
    standard error.

    Args:
        config: a training configuration that brings the backbone which the model stands on.
    """
    return open_weights(OFFICIAL if weights is None else weights, backbone=_backbone(config))


def open_weights(weights: str, *, backbone: Backbone | None = None) -> Model:
    """`jaxdet.saving.resolve.open_weights`; what was taken, where there is a choice, is printed on standard error."""

    def say(line: str) -> None:
        if is_first():
            print(line, file=sys.stderr, flush=True)

    return resolve.open_weights(weights, backbone=backbone, say=say)


def open_detector(weights: str | None, *, config: str | None = None) -> Detector:
    """As `open_model`, where only a detector will do."""
    model: Any = open_model(weights, config=config)
    if model.config.task is not Task.DETECTION:
        raise ValueError(f"{weights} holds a {type(model).__name__}, which does not detect; use jaxdet classify")
    return model


def _backbone(config: str | None):
    if config is None:
        return None
    from flax import nnx

    from jaxdet.runs import read_config
    from jaxdet.runs.start import numerics_of

    run = read_config(config)
    make = run.backbone
    return None if make is None else nnx.eval_shape(lambda: make(numerics=numerics_of(run), rngs=nnx.Rngs(0)))


def image_files(paths: Sequence[str]) -> list[Path]:
    """The files given and all images in the folders given, in order, each once.

    Hidden and system files in the folders are left out, which is printed.

    Raises:
        ValueError: a path does not exist, or there is no image.
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
    """The class names in a file, one a line; lines without text are left out.

    Raises:
        ValueError: it cannot be read as text, or has none.
    """
    try:
        names = [line.strip() for line in read_lines(file) if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: it is not text in UTF-8 ({error.reason} at byte {error.start})") from None
    if not names:
        raise ValueError(f"{file} holds no class names: write one a line")
    return names

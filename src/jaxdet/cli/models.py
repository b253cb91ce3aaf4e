"""What several commands do with models and image files: the one place where a path or name becomes a model."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxdet.backbones import Backbone
from jaxdet.config import nearest
from jaxdet.data.image_files import find_images
from jaxdet.data.images import IMAGE_SUFFIXES
from jaxdet.models import Detector, Model, Task, list_models
from jaxdet.parallel import is_first
from jaxdet.paths import is_remote, read_lines, to_path
from jaxdet.saving.open import open_stored

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
    """As `open_model`; ``backbone`` is the abstract one of a detector that was built on a module of the user's own."""
    from jaxdet_convert.read.safetensors_file import is_sharded

    place = find_weights(weights)
    if to_path(place).is_dir() and not is_sharded(place):
        stored = open_stored(place, backbone=backbone)
        if stored.taken is not None and is_first():
            print(stored.taken, file=sys.stderr, flush=True)
        return stored.model
    from jaxdet_convert import load_torch

    return load_torch(place)


def find_weights(weights: str) -> str:
    """The file or folder given, or the file of official weights of that name, which may be downloaded.

    Raises:
        ValueError: there is neither, or it is a weights file in a bucket.
        OSError: the official weights cannot be had.
    """
    if to_path(weights).exists():
        if is_remote(weights) and not to_path(weights).is_dir():
            raise ValueError(f"{weights}: weights files are read from a disk; copy it to one")
        return weights
    from jaxdet_convert.official import OFFICIAL, find_official

    if weights in OFFICIAL:
        return os.fspath(find_official(weights))
    if weights in list_models():
        other = f", or build it on a classifier's: jaxdet convert {weights} --backbone-weights FILE"
        raise ValueError(
            f"there are no official weights of {weights}: give a weights file{other if '_fpn' in weights else ''}"
        )
    looks_like_path = "/" in weights or "." in weights
    hint = "" if looks_like_path else f" ({', '.join(OFFICIAL)}){nearest(weights, OFFICIAL)}"
    raise ValueError(f"{weights}: there is no such file or folder, nor official weights of that name{hint}")


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
            raise ValueError(f"{path}: there is no such file or folder")
    return list(found)


def read_names(file: str) -> list[str]:
    """The class names in a file, one a line; lines without text are left out.

    Raises:
        ValueError: it does not read as text, or has none.
    """
    try:
        names = [line.strip() for line in read_lines(file) if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: it is not text in UTF-8 ({error.reason} at byte {error.start})") from None
    if not names:
        raise ValueError(f"{file} holds no class names: write one a line")
    return names

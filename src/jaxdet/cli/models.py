"""What several commands do with models and picture files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from jaxdet.data.image_files import find_images
from jaxdet.data.pictures import PICTURE_SUFFIXES
from jaxdet.detectors import FasterRCNN
from jaxdet.detectors.presets import Model
from jaxdet.paths import to_path
from jaxdet.runs.checkpoint import load

OFFICIAL = "fasterrcnn_resnet50_fpn"


def open_model(weights: str | None, *, config: str | None = None) -> Model:
    """A stored model, or that of a PyTorch file; without a path the official COCO model, converted on the way.

    Args:
        config: a training configuration that brings the backbone which the model stands on.
    """
    if weights is None or to_path(weights).is_file():
        from jaxdet_convert import find_official, load_torch

        return load_torch(find_official(OFFICIAL) if weights is None else weights)
    return load(weights, backbone=_backbone(config))


def open_detector(weights: str | None, *, config: str | None = None) -> FasterRCNN:
    """As `open_model`, where only a detector will do."""
    model = open_model(weights, config=config)
    if not isinstance(model, FasterRCNN):
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


def picture_files(paths: Sequence[str]) -> list[Path]:
    """The files given and all pictures in the folders given, in order, each once.

    Hidden and system files in the folders are left out, which is printed.

    Raises:
        ValueError: a path does not exist, or there is no picture.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            members = find_images(path)
            for fault in members.skipped_faults():
                print(fault, file=sys.stderr)
            if not members.paths:
                raise ValueError(f"{path}: no pictures in this folder ({', '.join(PICTURE_SUFFIXES)})")
            found.update(dict.fromkeys(map(Path, members.paths)))
        elif path.is_file():
            found[path] = None
        else:
            raise ValueError(f"{path}: there is no such file or folder")
    return list(found)

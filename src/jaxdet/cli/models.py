"""What several commands do with models and picture files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jaxdet.detectors import FasterRCNN
from jaxdet.runs.checkpoint import load

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
OFFICIAL = "fasterrcnn_resnet50_fpn"


def open_detector(weights: str | None) -> FasterRCNN:
    """A stored detector; without a path the official COCO model, converted on the way."""
    if weights is None:
        from jaxdet_convert import find_official, load_torch

        model = load_torch(find_official(OFFICIAL))
    elif Path(weights).is_file():
        from jaxdet_convert import load_torch

        model = load_torch(weights)
    else:
        model = load(weights)
    if not isinstance(model, FasterRCNN):
        raise ValueError(f"{weights} holds a {type(model).__name__}, which does not detect; use jaxdet classify")
    return model


def picture_files(paths: Sequence[str]) -> list[Path]:
    """The files given and all pictures in the folders given, in order, each once.

    Raises:
        ValueError: a path does not exist, or there is no picture.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            members = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
            if not members:
                raise ValueError(f"{path}: no pictures in this folder ({', '.join(SUFFIXES)})")
            found.update(dict.fromkeys(members))
        elif path.is_file():
            found[path] = None
        else:
            raise ValueError(f"{path}: there is no such file or folder")
    return list(found)

"""Finding models and weights by folder, weights file, or name of official weights.

All commands and `jaxdet.create_model` use these functions.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable
from typing import Any

from jaxdet.backbones import Backbone
from jaxdet.base import Model
from jaxdet.config import nearest
from jaxdet.models import list_models
from jaxdet.paths import is_remote, to_path
from jaxdet.saving.open import open_stored

DEFAULT = "DEFAULT"


def find_weights(weights: str) -> str:
    """The path of weights: the given file or folder, or the file of official weights, which may be downloaded.

    Raises:
        ValueError: neither exists, or it is a weights file in a bucket.
        OSError: the official weights cannot be downloaded.
    """
    if to_path(weights).exists():
        if is_remote(weights) and not to_path(weights).is_dir():
            raise ValueError(f"{weights}: weights files in buckets are not supported; copy it to a disk")
        return weights
    from jaxdet_convert.official import OFFICIAL, find_official

    if weights in OFFICIAL:
        return os.fspath(find_official(weights))
    if weights in list_models():
        other = f", or fill its backbone from a classifier: jaxdet convert {weights} --backbone-weights FILE"
        raise ValueError(
            f"there are no official weights of {weights}: give a weights file{other if '_fpn' in weights else ''}"
        )
    looks_like_path = "/" in weights or "." in weights
    hint = "" if looks_like_path else f" ({', '.join(OFFICIAL)}){nearest(weights, OFFICIAL)}"
    raise ValueError(f"{weights}: no such file or folder, and no official weights of this name{hint}")


def list_weights(name: str) -> list[str]:
    """The names of a model's official weights in torchvision (``"COCO_V1"``); the last one is the default.

    Raises:
        ValueError: the model is unknown.
    """
    from jaxdet_convert.official import official_of

    if name not in list_models():
        raise ValueError(f"unknown model {name!r}; known: {', '.join(list_models())}{nearest(name, list_models())}")
    return list(official_of(name))


def weights_of(name: str, weights: str | os.PathLike[str] | enum.Enum) -> str:
    """The weights of a named model, as an argument of `find_weights`.

    Args:
        name: the name of the model.
        weights: ``"DEFAULT"``, one of `list_weights`, a member of torchvision's enumerations or its name
            (``"ResNet50_Weights.IMAGENET1K_V2"``), or a path.

    Raises:
        ValueError: the model has no such official weights.
    """
    from jaxdet_convert.official import official_of

    wanted = weights.name if isinstance(weights, enum.Enum) else os.fspath(weights)
    enumeration, _, member = wanted.rpartition(".")
    if enumeration.endswith("_Weights"):
        wanted = member
    known = official_of(name)
    if wanted == DEFAULT and known:
        return list(known.values())[-1]
    if wanted in known:
        return known[wanted]
    if to_path(wanted).exists() or "/" in wanted or "." in wanted:
        return wanted
    has = f"has {', '.join([DEFAULT, *known])}" if known else "has no official weights"
    raise ValueError(f"{wanted}: no such file or folder, and {name} {has}{nearest(wanted, known)}")


def open_weights(
    weights: str,
    *,
    backbone: Backbone | None = None,
    say: Callable[[str], object] = lambda line: None,
    **options: Any,
) -> Model:
    """Opens the model of a folder (of a jaxdet model or a training run), of a weights file, or of official weights.

    Args:
        backbone: the abstract backbone of a detector that was built on a custom one.
        say: called with a message that says which model was opened, if there are several, as in a run's folder.
        options: of `jaxdet_convert.load_torch`, for weights files.

    Raises:
        ValueError, OSError: see `find_weights`; or the model cannot be read.
    """
    from jaxdet_convert.read.safetensors_file import is_sharded

    place = find_weights(weights)
    if to_path(place).is_dir() and not is_sharded(place):
        stored = open_stored(place, backbone=backbone)
        if stored.taken is not None:
            say(stored.taken)
        return stored.model
    from jaxdet_convert import load_torch

    return load_torch(place, **options)

"""Weights and images for comparisons without trained weights.

A freshly initialised detector is not suitable: its activations grow with depth, its scores are almost equal, and its
boxes overflow. Instead, random weights are calibrated on an image, so that norms normalise, scores vary without
saturating, deltas are of moderate size, and some hundred boxes are above the threshold.

torch is only imported by the functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxdet.models import Task, list_models
from jaxdet_convert.parity.calibration import randomise_norms
from jaxdet_convert.parity.images import smooth_image as smooth_image
from jaxdet_convert.sources.base import Parity
from jaxdet_convert.sources.registry import SOURCES


def torchvision_models() -> dict[str, Parity]:
    """The models that torchvision also has, and how each is compared."""
    return {name: source.parity for source in SOURCES for name in source.parity.builders}


def detectors() -> list[str]:
    """The names of the detectors among `torchvision_models`."""
    return sorted(name for name in torchvision_models() if _detects(name))


def torchvision_model(torchvision: Any, name: str, *, seed: int = 0, frozen: bool = False, **options: Any) -> Any:
    """torchvision's model of this name in evaluation mode, with calibrated random weights.

    Args:
        torchvision: the module, with its operators registered.
        frozen: use FrozenBatchNorm2d in the backbone, as torchvision does in version 1 with pretrained weights.
        options: of torchvision's function (``num_classes``, ``min_size``, ...).

    Raises:
        ValueError: the model is not in both libraries.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _built(torchvision, name, options)
        randomise_norms(model)
    with torch.no_grad():
        calibrate = torchvision_models()[name].calibrate
        assert calibrate is not None
        calibrate(model, seed)
    if frozen:
        _freeze(torchvision, _body(model, name))
    return model


def torchvision_model_of_file(torchvision: Any, name: str, path: str, **options: Any) -> Any:
    """torchvision's model with the weights of a file or of a jaxdet folder, loaded strictly by torchvision.

    The number of classes, and kind and eps of the norms, are determined as in `jaxdet_convert.load_torch`. The file is
    read by jaxdet's reader, which does not run code from it.

    Raises:
        ValueError: the weights do not fit torchvision's model.
    """
    import torch

    from jaxdet.paths import to_path
    from jaxdet.saving.open import open_stored
    from jaxdet_convert.export import to_torch
    from jaxdet_convert.load import load_torch
    from jaxdet_convert.read.safetensors_file import is_sharded
    from jaxdet_convert.read.unwrap import read_model

    _check_name(name)
    stored = open_stored(path).model if to_path(path).is_dir() and not is_sharded(path) else None
    config = load_torch(path, name).config if stored is None else stored.config
    model = _built(torchvision, name, {"num_classes": config.num_classes} | options)
    body, norm = _body(model, name), config.backbone_config.norm
    if norm.kind == "frozen":
        _freeze(torchvision, body)
        for layer in body.modules():
            if isinstance(layer, torchvision.ops.FrozenBatchNorm2d):
                layer.eps = norm.eps
    values = read_model(path).tensors if stored is None else to_torch(stored)
    tensors = {key: torch.from_numpy(_wide(value)) for key, value in values.items()}
    try:
        model.load_state_dict(tensors)  # also accepts the names from before torchvision 0.13
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit torchvision's {name}: {' '.join(str(error).split())[:300]}") from None
    return model


def _wide(array: np.ndarray) -> np.ndarray:
    """A copy, with bfloat16 as float32, because torch only accepts numpy's own dtypes."""
    return np.array(array, np.float32 if str(array.dtype) == "bfloat16" else array.dtype)


def _check_name(name: str) -> None:
    known = torchvision_models()
    if name not in known:
        raise ValueError(f"torchvision and jaxdet have no common model {name!r}; they have {', '.join(known)}")


def _built(torchvision: Any, name: str, options: dict[str, Any]) -> Any:
    _check_name(name)
    if _detects(name):
        return getattr(torchvision.models.detection, name)(weights=None, weights_backbone=None, **options).eval()
    return getattr(torchvision.models, name)(weights=None, **options).eval()


def _body(model: Any, name: str) -> Any:
    """The module's backbone, without the pyramid."""
    return model.backbone.body if _detects(name) else model


def _detects(name: str) -> bool:
    return name in list_models(Task.DETECTION)


def _freeze(torchvision: Any, model: Any) -> None:
    """Replaces every BatchNorm2d by torchvision's FrozenBatchNorm2d with the same arrays and eps."""
    import torch

    for layer in list(model.modules()):
        for name, child in layer.named_children():
            if isinstance(child, torch.nn.BatchNorm2d):
                frozen = torchvision.ops.FrozenBatchNorm2d(child.num_features, eps=child.eps)
                state = {key: value for key, value in child.state_dict().items() if key != "num_batches_tracked"}
                frozen.load_state_dict(state)
                setattr(layer, name, frozen)

"""Weights and images to compare two implementations with, where no trained weights are at hand.

A freshly initialised detector is no test: its activations explode with depth, its scores are all alike and its boxes
overflow. Here a random one is calibrated on an image until it behaves as a trained one does: norms that normalise,
scores that spread without saturating, deltas of moderate size, and some hundred boxes above the threshold.

torch is imported by the functions, not by this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

DETECTORS = ("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2")
CLASSIFIERS = ("resnet50", "resnet101", "resnet152")

CANDIDATES = 600  # (proposal, class) pairs above the score threshold on a calibration image
_LOGIT_STD, _RPN_DELTA_STD, _BOX_DELTA_STD = 2.0, 0.3, 0.8  # the last before the box coder divides by 10 and 5
_CALIBRATION_SIZE = (256, 320)


def smooth_image(seed: int, height: int, width: int) -> np.ndarray:
    """A random image ``[height, width, 3]`` uint8: soft clouds of colour with some flat shapes on them."""
    from PIL import Image

    rng = np.random.default_rng((seed, height, width))
    cells = (max(2, -(-width // 24)), max(2, -(-height // 24)))
    noise = Image.fromarray(rng.integers(0, 256, (cells[1], cells[0], 3), dtype=np.uint8))
    image = np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC)).copy()
    y, x = np.mgrid[:height, :width]
    for number in range(8):
        centre, radius = rng.uniform((0, 0), (height, width)), rng.uniform(0.05, 0.3, 2) * min(height, width)
        offset = np.abs(np.stack([y - centre[0], x - centre[1]])) / np.maximum(radius, 1)[:, None, None]
        inside = (offset.max(0) < 1) if number % 2 else ((offset**2).sum(0) < 1)
        image[inside] = rng.integers(0, 256, 3)
    return image


def torchvision_model(torchvision: Any, name: str, *, seed: int = 0, frozen: bool = False, **options: Any) -> Any:
    """torchvision's model of this name in evaluation mode, with calibrated random weights.

    Args:
        torchvision: the module, with its operators registered.
        frozen: the backbone's norms as FrozenBatchNorm2d, as torchvision builds the first detector for its weights.
        options: of torchvision's builder (``num_classes``, ``min_size``, ...).

    Raises:
        ValueError: torchvision has no such model, or this library has not.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _built(torchvision, name, options)
        randomise_norms(model)
    with torch.no_grad():
        if name in CLASSIFIERS:
            _calibrate_classifier(model, seed)
        else:
            calibrate_detector(model, seed)
    if frozen:
        _freeze(torchvision, model if name in CLASSIFIERS else model.backbone.body)
    return model


def torchvision_model_of_file(torchvision: Any, name: str, path: str, **options: Any) -> Any:
    """torchvision's model with the weights of a file, or of a jaxdet folder, which torchvision itself loads, strictly.

    The number of classes, the norms' kind and their eps follow the file, as in `jaxdet_convert.load_torch`; our reader
    is used because it runs no code of the file.
    """
    import torch

    from jaxdet.models import FasterRCNNConfig
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
    body, norm = model, getattr(config, "norm", None)
    if isinstance(config, FasterRCNNConfig):
        assert config.backbone is not None
        body, norm = model.backbone.body, config.backbone.norm
    assert norm is not None
    if norm.kind == "frozen":
        _freeze(torchvision, body)
        for layer in body.modules():
            if isinstance(layer, torchvision.ops.FrozenBatchNorm2d):
                layer.eps = norm.eps
    values = read_model(path).tensors if stored is None else to_torch(stored)
    tensors = {key: torch.from_numpy(_wide(value)) for key, value in values.items()}
    try:
        model.load_state_dict(tensors)  # also takes the names from before torchvision 0.13
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit torchvision's {name}: {' '.join(str(error).split())[:300]}") from None
    return model


def _wide(array: np.ndarray) -> np.ndarray:
    """A copy, of bfloat16 as float32, because torch takes numpy's own dtypes alone."""
    return np.array(array, np.float32 if str(array.dtype) == "bfloat16" else array.dtype)


def _check_name(name: str) -> None:
    known = (*DETECTORS, *CLASSIFIERS)
    if name not in known:
        raise ValueError(f"torchvision has no model {name!r} that is also here; it has {', '.join(known)}")


def _built(torchvision: Any, name: str, options: dict[str, Any]) -> Any:
    _check_name(name)
    if name in CLASSIFIERS:
        return getattr(torchvision.models, name)(weights=None, **options).eval()
    return getattr(torchvision.models.detection, name)(weights=None, weights_backbone=None, **options).eval()


def _tensor(image: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def randomise_norms(model: Any) -> None:
    """Scales and shifts that differ, so that a norm in the wrong place shows.

    The last norm of a bottleneck is weak. Were it strong, every block would amplify the rounding of the blocks before:
    torchvision then differs from itself in another memory layout by 1e-5 of the largest RPN logit; so by 4e-6.
    """
    import torch

    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            last = name.endswith("bn3")
            layer.weight.data.uniform_(0.08, 0.24) if last else layer.weight.data.uniform_(0.7, 1.3)
            layer.bias.data.uniform_(-0.3, 0.3)


def _calibrate_classifier(model: Any, seed: int) -> None:
    batch = _tensor(smooth_image(seed, *_CALIBRATION_SIZE))[None] * 4 - 2
    with _measuring(model):
        model(batch)


def calibrate_detector(
    model: Any, seed: int = 0, *, images: int = 1, spread: Mapping[str, float] | None = None
) -> None:
    """Makes a detector with random weights behave as a trained one, by its outputs on some images.

    Args:
        model: built as torchvision's Faster R-CNN, in evaluation mode; it is changed.
        spread: deviations of the outputs of further layers of its backbone, by how the layers' names end.
    """
    import torch

    batch = [_tensor(smooth_image(seed + number, *_CALIBRATION_SIZE)) for number in range(images)]
    with torch.no_grad():
        minimum = model.transform.min_size
        model.transform.min_size = (_CALIBRATION_SIZE[0],)  # small, to be quick
        inputs, _ = model.transform(batch)
        model.transform.min_size = minimum
        with _measuring(model.backbone), _spreading(model.backbone, spread or {}):
            features = model.backbone(inputs.tensors)
        head = model.rpn.head
        logits, deltas = head(*_inputs(head, lambda: model.rpn(inputs, features)))
        _standardise(head.cls_logits, _channels(logits), _LOGIT_STD)
        _standardise(head.bbox_pred, _channels(deltas), _RPN_DELTA_STD)
        proposals, _ = model.rpn(inputs, features)
        heads = model.roi_heads
        pooled = _inputs(heads.box_head, lambda: heads(features, proposals, inputs.image_sizes))
        with _measuring(heads.box_head):
            hidden = heads.box_head(*pooled)
        predictor = heads.box_predictor
        logits, deltas = predictor(hidden)
        _standardise(predictor.cls_score, logits, _LOGIT_STD)
        _standardise(predictor.bbox_pred, deltas, _BOX_DELTA_STD)
        _raise_background(predictor.cls_score, predictor(hidden)[0], heads.score_thresh, images * CANDIDATES)


def _inputs(layer: Any, run: Callable[[], Any]) -> tuple[Any, ...]:
    """What a layer is given when something runs."""
    seen: list[tuple[Any, ...]] = []
    handle = layer.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs))
    run()
    handle.remove()
    return seen[-1]


@contextmanager
def _spreading(model: Any, spread: Mapping[str, float]) -> Iterator[None]:
    """Layers whose names end so get outputs of these deviations when they first run."""

    def standardise(deviation: float) -> Callable[[Any, tuple[Any, ...]], None]:
        return lambda layer, inputs: _standardise(layer, _channels([layer.forward(*inputs)]), deviation)

    handles = [
        layer.register_forward_pre_hook(standardise(deviation))
        for name, layer in model.named_modules()
        for end, deviation in spread.items()
        if name.endswith(end)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _channels(maps: list[Any]) -> Any:
    """``[N, C]`` of maps ``[B, C, H, W]``."""
    import torch

    return torch.cat([x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]) for x in maps])


def _standardise(layer: Any, outputs: Any, std: float) -> None:
    """Scales and shifts a linear layer so that its outputs ``[N, C]`` have mean 0 and this deviation per channel."""
    gain = std / outputs.std(0).clamp(min=1e-6)
    layer.weight.mul_(gain.reshape(-1, *[1] * (layer.weight.ndim - 1)))
    layer.bias.copy_((layer.bias - outputs.mean(0)) * gain)


def _raise_background(layer: Any, logits: Any, threshold: float, candidates: int) -> None:
    """Raises the background's bias until about so many pairs pass the threshold."""
    low, high = -10.0, 20.0
    for _ in range(30):
        middle = (low + high) / 2
        shifted = logits.clone()
        shifted[:, 0] += middle
        count = int((shifted.softmax(1)[:, 1:] > threshold).sum())
        low, high = (middle, high) if count > candidates else (low, middle)
    layer.bias[0] += middle


@contextmanager
def _measuring(model: Any) -> Iterator[None]:
    """Batch norms normalise by the batch and take its statistics for their own; nothing else trains."""
    import torch

    norms = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the plain average over passes, of which there is one
        norm.train()
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()


def _freeze(torchvision: Any, model: Any) -> None:
    """Every BatchNorm2d becomes torchvision's FrozenBatchNorm2d with the same four vectors and eps."""
    import torch

    for layer in list(model.modules()):
        for name, child in layer.named_children():
            if isinstance(child, torch.nn.BatchNorm2d):
                frozen = torchvision.ops.FrozenBatchNorm2d(child.num_features, eps=child.eps)
                state = {key: value for key, value in child.state_dict().items() if key != "num_batches_tracked"}
                frozen.load_state_dict(state)
                setattr(layer, name, frozen)

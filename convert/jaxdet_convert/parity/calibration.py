"""Calibration of PyTorch models with random weights, so that they behave like trained ones.

torch is only imported by the functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from jaxdet_convert.parity.images import smooth_image

CANDIDATES = 600  # (proposal or anchor, class) pairs above the score threshold per calibration image
_LOGIT_STD, _RPN_DELTA_STD, _BOX_DELTA_STD = 2.0, 0.3, 0.8  # the last before division by the coder's weights
_DISTANCE = 2.0  # FCOS: mean distance to the sides of a box, in strides
_CALIBRATION_SIZE = (256, 320)


def image_tensor(image: np.ndarray) -> Any:
    """An image ``[H, W, 3]`` uint8 as a tensor ``[3, H, W]`` in 0..1."""
    import torch

    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def randomise_norms(model: Any) -> None:
    """Draws scales and biases of all norms at random, so that misplaced norms change the results.

    The last norm of a bottleneck gets small scales. With larger ones, every block amplifies the rounding errors of the
    previous blocks: between two memory layouts, torchvision's RPN logits then differ by 1e-5 of the largest instead of
    4e-6.
    """
    import torch

    for name, layer in model.named_modules():
        if isinstance(layer, (torch.nn.BatchNorm2d, torch.nn.GroupNorm)):
            last = name.endswith("bn3")
            layer.weight.data.uniform_(0.08, 0.24) if last else layer.weight.data.uniform_(0.7, 1.3)
            layer.bias.data.uniform_(-0.3, 0.3)


def calibrate_classifier(model: Any, seed: int) -> None:
    """Sets the statistics of the norms to those of an image."""
    batch = image_tensor(smooth_image(seed, *_CALIBRATION_SIZE))[None] * 4 - 2
    with _updating_norms(model):
        model(batch)


def calibrate_two_stage(
    model: Any, seed: int = 0, *, images: int = 1, spread: Mapping[str, float] | None = None
) -> None:
    """Changes a detector with random weights so that it behaves like a trained one on some images.

    Args:
        model: a detector with the structure of torchvision's Faster R-CNN, in evaluation mode.
        images: the number of images.
        spread: standard deviations for the outputs of further layers of its backbone, by suffix of their names.
    """
    import torch

    batch = [image_tensor(smooth_image(seed + number, *_CALIBRATION_SIZE)) for number in range(images)]
    with torch.no_grad():
        inputs = _model_inputs(model, batch)
        with _updating_norms(model.backbone), _standardising(model.backbone, spread or {}):
            features = model.backbone(inputs.tensors)
        head = model.rpn.head
        logits, deltas = head(*_record_inputs(head, lambda: model.rpn(inputs, features)))
        _standardise(head.cls_logits, _channels(logits), _LOGIT_STD)
        _standardise(head.bbox_pred, _channels(deltas), _RPN_DELTA_STD)
        proposals, _ = model.rpn(inputs, features)
        heads = model.roi_heads
        pooled = _record_inputs(heads.box_head, lambda: heads(features, proposals, inputs.image_sizes))
        with _updating_norms(heads.box_head):
            hidden = heads.box_head(*pooled)
        predictor = heads.box_predictor
        logits, deltas = predictor(hidden)
        _standardise(predictor.cls_score, logits, _LOGIT_STD)
        _standardise(predictor.bbox_pred, deltas, _BOX_DELTA_STD)
        _raise_background(predictor.cls_score, predictor(hidden)[0], heads.score_thresh, images * CANDIDATES)


def calibrate_dense(model: Any, seed: int = 0) -> None:
    """`calibrate_two_stage` for a detector with the structure of torchvision's RetinaNet or FCOS."""
    import torch

    with torch.no_grad():
        inputs = _model_inputs(model, [image_tensor(smooth_image(seed, *_CALIBRATION_SIZE))])
        with _updating_norms(model.backbone):
            features = list(model.backbone(inputs.tensors).values())
        head = model.head
        # Without calibration, the variation of the values would decrease from layer to layer.
        hidden = [_calibrate_layers(part.conv, features) for part in (head.classification_head, head.regression_head)]
        logits, deltas = head.classification_head.cls_logits, head.regression_head.bbox_reg
        _standardise(deltas, _channels([deltas(x) for x in hidden[1]]), _RPN_DELTA_STD)
        _standardise(logits, _channels([logits(x) for x in hidden[0]]), _LOGIT_STD)
        found, needed = _channels([logits(x) for x in hidden[0]]), torch.tensor(float(model.score_thresh))
        if (centerness := getattr(head.regression_head, "bbox_ctrness", None)) is not None:
            deltas.bias += _DISTANCE
            _standardise(centerness, _channels([centerness(x) for x in hidden[1]]), 1.0)
            central = _channels([centerness(x) for x in hidden[1]]).sigmoid()
            needed = (needed**2 / central).clamp(max=1 - 1e-6)  # the score is their geometric mean
        logits.bias -= (found - needed.logit()).flatten().topk(CANDIDATES).values[-1]


def _calibrate_layers(layers: Any, maps: list[Any]) -> list[Any]:
    """Standardises the outputs of the convolutions with a bias, per channel. Returns the maps after all layers.

    Args:
        layers: blocks of layers (RetinaNet), or layers (FCOS).
    """
    import torch

    for block in layers:
        convolution = block if isinstance(block, torch.nn.Conv2d) else block[0] if hasattr(block, "__len__") else None
        if convolution is not None and convolution.bias is not None:
            _standardise(convolution, _channels([convolution(x) for x in maps]), 1.0)
        maps = [block(x) for x in maps]
    return maps


def _model_inputs(model: Any, batch: list[Any]) -> Any:
    """The images after the model's transform, with a small size to save time."""
    minimum = model.transform.min_size
    model.transform.min_size = (_CALIBRATION_SIZE[0],)
    inputs, _ = model.transform(batch)
    model.transform.min_size = minimum
    return inputs


def _record_inputs(layer: Any, run: Callable[[], Any]) -> tuple[Any, ...]:
    """The arguments of a layer while ``run`` is called."""
    seen: list[tuple[Any, ...]] = []
    handle = layer.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs))
    run()
    handle.remove()
    return seen[-1]


@contextmanager
def _standardising(model: Any, spread: Mapping[str, float]) -> Iterator[None]:
    """Standardises the outputs of layers, by suffix of their names, to these deviations whenever they run."""

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
    """The pixels ``[N, C]`` of maps ``[B, C, H, W]``."""
    import torch

    return torch.cat([x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]) for x in maps])


def _standardise(layer: Any, outputs: Any, std: float) -> None:
    """Changes a linear layer so that its outputs ``[N, C]`` have mean 0 and standard deviation ``std`` per channel."""
    gain = std / outputs.std(0).clamp(min=1e-6)
    layer.weight.mul_(gain.reshape(-1, *[1] * (layer.weight.ndim - 1)))
    layer.bias.copy_((layer.bias - outputs.mean(0)) * gain)


def _raise_background(layer: Any, logits: Any, threshold: float, candidates: int) -> None:
    """Raises the background's bias until about ``candidates`` pairs are above the threshold."""
    low, high = -10.0, 20.0
    for _ in range(30):
        middle = (low + high) / 2
        shifted = logits.clone()
        shifted[:, 0] += middle
        count = int((shifted.softmax(1)[:, 1:] > threshold).sum())
        low, high = (middle, high) if count > candidates else (low, middle)
    layer.bias[0] += middle


@contextmanager
def _updating_norms(model: Any) -> Iterator[None]:
    """Batch norms use the statistics of the batch and store them. All other layers stay in evaluation mode."""
    import torch

    norms = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the average over all passes, here only one
        norm.train()
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()

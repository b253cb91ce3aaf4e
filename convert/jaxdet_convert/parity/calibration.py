"""Making PyTorch's models of random weights behave as trained ones, by their outputs on generated images.

torch is imported by the functions, not by this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from jaxdet_convert.parity.images import smooth_image

CANDIDATES = 600  # (proposal, class) pairs above the score threshold on a calibration image
_LOGIT_STD, _RPN_DELTA_STD, _BOX_DELTA_STD = 2.0, 0.3, 0.8  # the last before the box coder divides by 10 and 5
_DISTANCE = 2.0  # FCOS: mean distance to the sides of a box, in strides
_CALIBRATION_SIZE = (256, 320)


def image_tensor(image: np.ndarray) -> Any:
    """``[3, H, W]`` in 0..1 of an image ``[H, W, 3]`` uint8."""
    import torch

    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def randomise_norms(model: Any) -> None:
    """Scales and shifts that differ, so that a norm in the wrong place shows.

    The last norm of a bottleneck is weak. Were it strong, every block would amplify the rounding of the blocks before:
    torchvision then differs from itself in another memory layout by 1e-5 of the largest RPN logit; so by 4e-6.
    """
    import torch

    for name, layer in model.named_modules():
        if isinstance(layer, (torch.nn.BatchNorm2d, torch.nn.GroupNorm)):
            last = name.endswith("bn3")
            layer.weight.data.uniform_(0.08, 0.24) if last else layer.weight.data.uniform_(0.7, 1.3)
            layer.bias.data.uniform_(-0.3, 0.3)


def calibrate_classifier(model: Any, seed: int) -> None:
    """Statistics of its norms that fit an image."""
    batch = image_tensor(smooth_image(seed, *_CALIBRATION_SIZE))[None] * 4 - 2
    with _measuring(model):
        model(batch)


def calibrate_two_stage(
    model: Any, seed: int = 0, *, images: int = 1, spread: Mapping[str, float] | None = None
) -> None:
    """Makes a detector with random weights behave as a trained one, by its outputs on some images.

    Args:
        model: built as torchvision's Faster R-CNN, in evaluation mode; it is changed.
        spread: deviations of the outputs of further layers of its backbone, by how the layers' names end.
    """
    import torch

    batch = [image_tensor(smooth_image(seed + number, *_CALIBRATION_SIZE)) for number in range(images)]
    with torch.no_grad():
        inputs = _model_inputs(model, batch)
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


def calibrate_dense(model: Any, seed: int = 0) -> None:
    """The same for a detector that is built as torchvision's RetinaNet or FCOS."""
    import torch

    with torch.no_grad():
        inputs = _model_inputs(model, [image_tensor(smooth_image(seed, *_CALIBRATION_SIZE))])
        with _measuring(model.backbone):
            features = list(model.backbone(inputs.tensors).values())
        head = model.head
        # Otherwise the values of each layer would differ less and less, relative to their size.
        towers = [_calibrate_tower(part.conv, features) for part in (head.classification_head, head.regression_head)]
        logits, deltas = head.classification_head.cls_logits, head.regression_head.bbox_reg
        _standardise(deltas, _channels([deltas(x) for x in towers[1]]), _RPN_DELTA_STD)
        _standardise(logits, _channels([logits(x) for x in towers[0]]), _LOGIT_STD)
        found, needed = _channels([logits(x) for x in towers[0]]), torch.tensor(float(model.score_thresh))
        if (centerness := getattr(head.regression_head, "bbox_ctrness", None)) is not None:
            deltas.bias += _DISTANCE
            _standardise(centerness, _channels([centerness(x) for x in towers[1]]), 1.0)
            central = _channels([centerness(x) for x in towers[1]]).sigmoid()
            needed = (needed**2 / central).clamp(max=1 - 1e-6)  # the score is their geometric mean
        logits.bias -= (found - needed.logit()).flatten().topk(CANDIDATES).values[-1]


def _calibrate_tower(tower: Any, maps: list[Any]) -> list[Any]:
    """Scales convolutions with a bias to outputs of mean 0 and deviation 1 per channel; returns the resulting maps.

    A tower is a sequence of blocks (RetinaNet), or of layers (FCOS).
    """
    import torch

    for block in tower:
        convolution = block if isinstance(block, torch.nn.Conv2d) else block[0] if hasattr(block, "__len__") else None
        if convolution is not None and convolution.bias is not None:
            _standardise(convolution, _channels([convolution(x) for x in maps]), 1.0)
        maps = [block(x) for x in maps]
    return maps


def _model_inputs(model: Any, batch: list[Any]) -> Any:
    """Images as the model's transform makes them, small, to be quick."""
    minimum = model.transform.min_size
    model.transform.min_size = (_CALIBRATION_SIZE[0],)
    inputs, _ = model.transform(batch)
    model.transform.min_size = minimum
    return inputs


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

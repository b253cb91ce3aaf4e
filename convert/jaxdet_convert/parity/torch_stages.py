"""What a live PyTorch module computes at every stage, seen through forward hooks; channels last, without the batch.

torch is imported by the functions: whoever has a module has imported it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class DetectorTrace:
    """One image through a torchvision-style detector. Axes: h w, C, A anchors of a location, R, K, D."""

    pixels: np.ndarray  # [h, w, 3], the transformed image without its padding
    body: list[np.ndarray]  # a level [h_l, w_l, C_l]
    pyramid: list[np.ndarray]
    rpn_logits: list[np.ndarray]  # a level [h_l, w_l, A]
    rpn_deltas: list[np.ndarray]  # a level [h_l, w_l, A, 4]
    anchors: np.ndarray  # [N, 4], all levels
    proposals: np.ndarray  # [R, 4]
    pooled: np.ndarray  # [R, P, P, C]
    logits: np.ndarray  # [R, K]
    deltas: np.ndarray  # [R, K, 4]
    boxes: np.ndarray  # [D, 4] in the image's pixels
    scores: np.ndarray  # [D]
    labels: np.ndarray  # [D]


def trace_detector(module: Any, image: np.ndarray) -> DetectorTrace:
    """Run the module on one image ``[H, W, 3]``, uint8 or float in 0..1.

    Raises:
        ValueError: the module lacks a part that torchvision's Faster R-CNN has.
    """
    parts: dict[str, str] = {
        "transform": "transform", "body": "backbone.body", "pyramid": "backbone", "head": "rpn.head",
        "anchors": "rpn.anchor_generator", "rpn": "rpn", "pool": "roi_heads.box_roi_pool",
        "predictor": "roi_heads.box_predictor",
    }  # fmt: skip
    with _listening(module, parts) as seen, _evaluating(module) as to_input:
        found = module([to_input(image)])[0]
    images = seen["transform"][0]
    height, width = images.image_sizes[0]
    logits, deltas = seen["head"]
    class_logits, class_deltas = map(_numpy, seen["predictor"])
    return DetectorTrace(
        pixels=_map(images.tensors)[:height, :width],
        body=[_map(x) for x in _values(seen["body"])],
        pyramid=[_map(x) for x in _values(seen["pyramid"])],
        rpn_logits=[_map(x) for x in logits],
        rpn_deltas=[(y := _map(x)).reshape(*y.shape[:2], -1, 4) for x in deltas],
        anchors=_numpy(seen["anchors"][0]),
        proposals=_numpy(seen["rpn"][0][0]),
        pooled=_numpy(seen["pool"]).transpose(0, 2, 3, 1),
        logits=class_logits,
        deltas=class_deltas.reshape(*class_logits.shape, 4),
        boxes=_numpy(found["boxes"]),
        scores=_numpy(found["scores"]),
        labels=_numpy(found["labels"]),
    )


def trace_classifier(module: Any, names: Sequence[str], x: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Maps ``{our name: [h, w, C]}`` and logits ``[K]`` of a normalised image ``x [H, W, 3]``.

    Maps that the module has under none of the known names are left out.
    """
    import torch

    # torchvision's and RetinaFace's own names; the PyTorch listing's Darknet-53; timm's.
    spellings: list[Callable[[int, str], str]] = [
        lambda index, name: name,
        lambda index, name: f"residual_block{index + 1}",
        lambda index, name: f"stages.{index}",
    ]
    modules = dict(module.named_modules())
    parts: dict[str, str] = {}
    for spelling in spellings:
        parts = {name: spelling(index, name) for index, name in enumerate(names)}
        if all(path in modules for path in parts.values()):
            break
    else:
        parts = {}
    with _listening(module, parts) as seen, _evaluating(module):
        first = next(module.parameters())
        tensor = torch.from_numpy(np.array(x.transpose(2, 0, 1)[None]))
        logits = module(tensor.to(first.device, first.dtype))
    return {name: _map(value) for name, value in seen.items()}, _numpy(logits)[0]


@contextmanager
def _listening(module: Any, parts: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The outputs of the named submodules, as they appear."""
    modules = dict(module.named_modules())
    missing = [path for path in parts.values() if path not in modules]
    if missing:
        raise ValueError(f"{type(module).__name__} is not built as torchvision's: it has no {', '.join(missing)}")
    seen: dict[str, Any] = {}
    handles = []
    for name, path in parts.items():

        def hook(layer: Any, inputs: Any, output: Any, name: str = name) -> None:
            seen[name] = output

        handles.append(modules[path].register_forward_hook(hook))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _evaluating(module: Any) -> Iterator[Callable[[np.ndarray], Any]]:
    """Evaluation without gradients, and the module's modes put back afterwards; yields what makes its input."""
    import torch

    first = next(module.parameters())

    def to_input(image: np.ndarray) -> Any:
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)  # a copy: the image may be read-only
        tensor = tensor.float() / 255 if image.dtype == np.uint8 else tensor
        return tensor.to(first.device, first.dtype)

    modes = [(layer, layer.training) for layer in module.modules()]
    module.eval()
    try:
        with torch.inference_mode():
            yield to_input
    finally:
        for layer, training in modes:
            layer.training = training


def _values(maps: Any) -> list[Any]:
    return list(maps.values())


def _numpy(tensor: Any) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _map(tensor: Any) -> np.ndarray:
    """``[1, C, H, W]`` to ``[H, W, C]``."""
    return _numpy(tensor)[0].transpose(1, 2, 0)

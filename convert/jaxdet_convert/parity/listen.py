"""Running a PyTorch module in evaluation mode and recording the outputs of its submodules.

torch is only imported by the functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np


@contextmanager
def listening(module: Any, parts: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Records the last output of submodules while the module runs.

    Args:
        parts: ``{name: path of the submodule}``.

    Raises:
        ValueError: the module does not have one of them.
    """
    modules = dict(module.named_modules())
    missing = [path for path in parts.values() if path not in modules]
    if missing:
        raise ValueError(
            f"{type(module).__name__} has another structure than torchvision's: it has no {', '.join(missing)}"
        )
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
def evaluating(module: Any) -> Iterator[Callable[[np.ndarray], Any]]:
    """Sets a module to evaluation without gradients, and restores its modes afterwards.

    Yields a function that converts an image ``[H, W, 3]`` to the module's input.
    """
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


def as_numpy(tensor: Any) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def as_map(tensor: Any) -> np.ndarray:
    """``[1, C, H, W]`` to ``[H, W, C]``."""
    return as_numpy(tensor)[0].transpose(1, 2, 0)

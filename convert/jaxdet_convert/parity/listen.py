"""Running a live PyTorch module in evaluation mode and hearing what its parts compute.

torch is imported by the functions: whoever has a module has imported it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np


@contextmanager
def listening(module: Any, parts: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The outputs of the named submodules, as they appear.

    Raises:
        ValueError: the module lacks one of them.
    """
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
def evaluating(module: Any) -> Iterator[Callable[[np.ndarray], Any]]:
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


def as_numpy(tensor: Any) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def as_map(tensor: Any) -> np.ndarray:
    """``[1, C, H, W]`` to ``[H, W, C]``."""
    return as_numpy(tensor)[0].transpose(1, 2, 0)

"""torchvision's detectors as they run fastest: in float32 in either layout, on a GPU under AMP channels-last."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import jax


@dataclass(frozen=True)
class Peer:
    """A module in one memory layout on one device.

    module: torchvision's, on the device.
    memory_format: of its weights and of what it is given.
    amp: whether it computes under bfloat16 autocast.
    """

    module: Any
    memory_format: Any
    device: str
    amp: bool

    def autocast(self) -> AbstractContextManager[Any]:
        import torch

        return torch.autocast(self.device, torch.bfloat16) if self.amp else nullcontext()

    def images(self, arrays: list[Any]) -> list[Any]:
        """uint8 images ``[H, W, 3]`` on the device, as torchvision takes them."""
        import torch

        return [torch.from_numpy(array).to(self.device).permute(2, 0, 1).float() / 255 for array in arrays]

    def wait(self) -> None:
        """Until the device has done what it was told."""
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()


def on_gpu() -> bool:
    """Whether JAX's devices are GPUs; torchvision then has to be on one, too."""
    if jax.default_backend() != "gpu":
        return False
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("JAX has a GPU and torch has none, so there is nothing to compare: install torch with CUDA")
    return True


def peers(module: Any) -> Mapping[str, Peer]:
    """The ways in which torchvision may run here, by name."""
    import torch

    if on_gpu():
        module = copy.deepcopy(module).to("cuda", memory_format=torch.channels_last)
        return {"torchvision AMP": Peer(module, torch.channels_last, "cuda", True)}
    last = copy.deepcopy(module).to(memory_format=torch.channels_last)
    return {
        "torchvision NCHW": Peer(module, torch.contiguous_format, "cpu", False),
        "torchvision channels_last": Peer(last, torch.channels_last, "cpu", False),
    }


def our_dtype() -> str:
    """What jaxdet computes in to do the same work."""
    return "bfloat16" if on_gpu() else "float32"


def contenders(found: Mapping[str, Peer], make: Callable[[Peer], Callable[[], Any]]) -> dict[str, Callable[[], Any]]:
    """What each peer runs."""
    return {name: make(peer) for name, peer in found.items()}

"""torchvision's detectors in their fastest settings: float32 in both memory layouts, or AMP channels-last on a GPU."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import jax


@dataclass(frozen=True)
class Peer:
    """torchvision's model in one memory layout on one device.

    module: the model, on the device.
    memory_format: memory layout of its weights and inputs.
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
        """uint8 images ``[H, W, 3]`` as torchvision's inputs: float ``[3, H, W]`` in 0..1 on the device."""
        import torch

        return [torch.from_numpy(array).to(self.device).permute(2, 0, 1).float() / 255 for array in arrays]

    def wait(self) -> None:
        """Waits until the device has finished."""
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()


def on_gpu() -> bool:
    """Whether JAX's devices are GPUs; torchvision then has to use one, too."""
    if jax.default_backend() != "gpu":
        return False
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("JAX has a GPU but torch has none, so they cannot be compared: install torch with CUDA")
    return True


def peers(module: Any) -> Mapping[str, Peer]:
    """The settings in which torchvision runs on this machine, by name."""
    import torch

    if on_gpu():
        module = copy.deepcopy(module).to("cuda", memory_format=torch.channels_last)
        return {"torchvision AMP": Peer(module, torch.channels_last, "cuda", True)}
    channels_last = copy.deepcopy(module).to(memory_format=torch.channels_last)
    return {
        "torchvision NCHW": Peer(module, torch.contiguous_format, "cpu", False),
        "torchvision channels_last": Peer(channels_last, torch.channels_last, "cpu", False),
    }


def our_dtype() -> str:
    """The dtype in which jaxdet computes, to match torchvision's."""
    return "bfloat16" if on_gpu() else "float32"


def contenders(found: Mapping[str, Peer], make: Callable[[Peer], Callable[[], Any]]) -> dict[str, Callable[[], Any]]:
    """The function of each peer, by name; ``make`` returns it."""
    return {name: make(peer) for name, peer in found.items()}

"""HeadHunter's twin with well-conditioned seeded weights, and its conversion.

torchvision has to be imported before this file (`torchvision_cpu`).
"""

from __future__ import annotations

from typing import Any

import torch

from jaxdet.models import FasterRCNN
from jaxdet_convert import from_torch
from jaxdet_convert.parity.calibration import calibrate_two_stage, randomise_norms
from parity.twins.headhunter import headhunter

IMAGES = 4  # to calibrate with: the levels of smooth maps differ from image to image
CENTRE = 2.5  # added to the middle of depthwise filters, whose sums have a deviation of 0.6
LIFT = 0.7  # added to the norms' shifts
SMALL: dict[str, Any] = {"blocks": (1, 1, 1, 1), "size": 64, "width": 64, "proposals": 300}


def twin(seed: int = 0, **options: Any) -> Any:
    """The twin with these options (`parity.twins.headhunter.headhunter`), calibrated."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = headhunter(**options)
        randomise_norms(module)
        for name, layer in module.named_modules():
            # An activation that cuts half of a signal leaves less of it than of the rounding it bears, and over fifty
            # layers that adds up: so most values pass. Residual branches stay weak.
            if isinstance(layer, torch.nn.BatchNorm2d) and not name.endswith("bn3"):
                layer.bias.data += LIFT
            # Random filters of sum 0 give nearly nothing on smooth images, and a norm enlarges its rounding: with
            # them PyTorch's MobileNetV1 is 2e-5 from its own float64, and with 1.5 in the middle 6e-6. So each mostly
            # passes its pixel on.
            if isinstance(layer, torch.nn.Conv2d) and layer.groups > 1:
                layer.weight.data[:, :, 1, 1] += CENTRE
        # Trained offsets stay near the constants that they start as, some of which reach outside.
        calibrate_two_stage(module, seed, images=IMAGES, spread={"p_conv": 0.1, "m_conv": 1.0})
        for name, layer in module.named_modules():
            if name.endswith("p_conv"):
                layer.bias.data += torch.empty_like(layer.bias).uniform_(-2, 2)
    return module


def pair(seed: int = 0, **options: Any) -> tuple[Any, FasterRCNN]:
    """The twin and what `from_torch` makes of it."""
    module = twin(seed, **options)
    model = from_torch(module)
    assert isinstance(model, FasterRCNN)
    return module, model

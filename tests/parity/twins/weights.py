"""Random weights under which a deep network neither dies, nor explodes, nor turns rounding into chaos.

A random network with batch norm amplifies a difference at every layer: of ResNet-50 with norms drawn around 1 and 0,
PyTorch agrees with itself in another memory layout to 5e-5 in layer4, and is 9e-5 from its own float64. In trained
networks the branches of residual blocks are small against what they are added to, and so they are here.
"""

from __future__ import annotations

import torch
from torch import nn

BRANCH = 0.2  # of a residual block's last norm


def randomise(module: nn.Module, seed: int = 0, *, size: int = 160, last: tuple[str, ...] = ()) -> nn.Module:
    """The module in evaluation mode, with random affine parameters and the statistics of random images.

    Args:
        last: how the names of the residual blocks' last norms end.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                nn.init.kaiming_normal_(parameter, generator=generator)
            else:
                parameter.normal_(0, 0.1, generator=generator)
        for name, layer in norms.items():
            layer.weight.uniform_(0.5, 1.5, generator=generator)
            layer.bias.normal_(0.5, 0.25, generator=generator)
            if last and name.endswith(last):
                layer.weight.mul_(BRANCH)
                layer.bias.mul_(BRANCH)
            layer.momentum = 1.0  # the statistics become the images'
        module.train()(torch.randn(2, 3, size, size, generator=generator))
        for layer in norms.values():
            layer.momentum = 0.1
    return module.eval()

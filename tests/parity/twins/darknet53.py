"""Darknet-53 in PyTorch, under the names of the listing that circulates and under timm's."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

BLOCKS = (1, 2, 8, 8, 4)


def _listed(inputs: int, outputs: int, kernel: int, stride: int, slope: float) -> nn.Sequential:
    """The listing's convolution, with the padding that its 1x1 ones need for the addition to fit: none."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.LeakyReLU(slope))


def _named(inputs: int, outputs: int, kernel: int, stride: int, slope: float) -> nn.Sequential:
    conv, norm, act = _listed(inputs, outputs, kernel, stride, slope)
    return nn.Sequential(OrderedDict(conv=conv, bn=norm, act=act))


class _Residual(nn.Module):
    def __init__(self, channels: int, slope: float, unit, names: tuple[str, str]) -> None:
        super().__init__()
        self.names = names
        setattr(self, names[0], unit(channels, channels // 2, 1, 1, slope))
        setattr(self, names[1], unit(channels // 2, channels, 3, 1, slope))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = (getattr(self, name) for name in self.names)
        return x + second(first(x))


class Darknet53(nn.Module):
    """With the names of the PyTorch listing."""

    def __init__(self, num_classes: int = 18, slope: float = 0.01) -> None:
        super().__init__()
        self.conv1 = _listed(3, 32, 3, 1, slope)
        channels = 32
        for index, blocks in enumerate(BLOCKS, start=1):
            setattr(self, f"conv{index + 1}", _listed(channels, 2 * channels, 3, 2, slope))
            channels *= 2
            units = [_Residual(channels, slope, _listed, ("layer1", "layer2")) for _ in range(blocks)]
            setattr(self, f"residual_block{index}", nn.Sequential(*units))
        self.fc = nn.Linear(channels, num_classes)

    def features(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.conv1(x)
        maps = {}
        for index in range(1, len(BLOCKS) + 1):
            x = getattr(self, f"residual_block{index}")(getattr(self, f"conv{index + 1}")(x))
            maps[f"stage{index}"] = x
        return maps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(x)[f"stage{len(BLOCKS)}"].mean((2, 3)))


class TimmDarknet53(nn.Module):
    """With timm's names."""

    def __init__(self, num_classes: int = 18, slope: float = 0.01) -> None:
        super().__init__()
        self.stem = nn.Sequential(OrderedDict(conv1=_named(3, 32, 3, 1, slope)))
        stages = []
        channels = 32
        for blocks in BLOCKS:
            down = _named(channels, 2 * channels, 3, 2, slope)
            channels *= 2
            units = [_Residual(channels, slope, _named, ("conv1", "conv2")) for _ in range(blocks)]
            stages.append(nn.Sequential(OrderedDict(conv_down=down, blocks=nn.Sequential(*units))))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(OrderedDict(fc=nn.Linear(channels, num_classes)))

    def features(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.stem(x)
        maps = {}
        for index, stage in enumerate(self.stages, start=1):
            maps[f"stage{index}"] = x = stage(x)
        return maps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x)[f"stage{len(BLOCKS)}"].mean((2, 3)))

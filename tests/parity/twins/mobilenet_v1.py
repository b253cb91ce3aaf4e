"""RetinaFace's MobileNetV1 in PyTorch."""

from __future__ import annotations

import torch
from torch import nn

SLOPE = 0.1
CHANNELS = (64, 128, 128, 256, 256), (512,) * 6, (1024, 1024)


def _unit(inputs: int, outputs: int, *, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.LeakyReLU(SLOPE)]


def _separable(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    depthwise = _unit(inputs, inputs, kernel=3, stride=stride, groups=inputs)
    return nn.Sequential(*depthwise, *_unit(inputs, outputs, kernel=1))


class MobileNetV1(nn.Module):
    """Stages halve the image at their first block, the first stage at its stem, second and fourth block."""

    def __init__(self, width: float = 0.25, num_classes: int = 1000) -> None:
        super().__init__()
        channels = int(32 * width)
        members: list[list[nn.Module]] = [[nn.Sequential(*_unit(3, channels, kernel=3, stride=2))], [], []]
        for stage, sizes in enumerate(CHANNELS):
            for index, size in enumerate(sizes):
                halves = index in (1, 3) if stage == 0 else index == 0
                members[stage].append(_separable(channels, int(size * width), 2 if halves else 1))
                channels = int(size * width)
        self.stage1, self.stage2, self.stage3 = (nn.Sequential(*stage) for stage in members)
        self.fc = nn.Linear(channels, num_classes)

    def features(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = {}
        for name in ("stage1", "stage2", "stage3"):
            maps[name] = x = getattr(self, name)(x)
        return maps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(x)["stage3"].mean((2, 3)))

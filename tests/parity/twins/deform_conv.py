"""HeadHunter's modulated deformable convolution in PyTorch: samples gathered into a larger map, then convolved.

Not `torchvision.ops.deform_conv2d`: whatever lies outside of the zero-padded map is clamped to its border.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


def sample(x: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Bilinear samples ``[B, C, ...]`` of ``x [B, C, H, W]`` at ``rows`` and ``columns [B, ...]``, clamped."""
    height, width = x.shape[2:]

    def corner(start: torch.Tensor, position: torch.Tensor, limit: int, after: int) -> tuple[torch.Tensor, ...]:
        """Index and weight of the pixel before a position, or of the one after it."""
        index = (start + after).clamp(0, limit - 1)
        apart = index - position.clamp(0, limit - 1)
        return index.long(), 1 - apart if after else 1 + apart

    def pixels(row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        index = (row * width + column).flatten(1)[:, None].expand(-1, x.shape[1], -1)
        return x.flatten(2).gather(2, index).unflatten(2, tuple(rows.shape[1:]))

    result = torch.zeros((), dtype=x.dtype)
    for below in (0, 1):
        row, row_weight = corner(rows.detach().floor(), rows, height, below)
        for right in (0, 1):
            column, column_weight = corner(columns.detach().floor(), columns, width, right)
            result = result + pixels(row, column) * (row_weight * column_weight)[:, None]
    return result


def deform_conv(
    x: torch.Tensor, offset: torch.Tensor, mask: torch.Tensor, weight: torch.Tensor, stride: int = 1, padding: int = 1
) -> torch.Tensor:
    """``x [B, C, H, W]``, ``offset [B, 2 * K * K, h, w]`` (all rows, then all columns), ``mask [B, K * K, h, w]``,
    ``weight [O, C, K, K]`` to ``[B, O, h, w]``."""
    kernel = weight.shape[-1]
    x = functional.pad(x, (padding,) * 4)
    batch, taps, height, width = mask.shape
    grid = torch.arange(kernel, dtype=x.dtype)
    down, across = (step.reshape(1, taps, 1, 1) for step in torch.meshgrid(grid, grid, indexing="ij"))
    rows = torch.arange(height, dtype=x.dtype).mul(stride).reshape(1, 1, -1, 1) + down + offset[:, :taps]
    columns = torch.arange(width, dtype=x.dtype).mul(stride).reshape(1, 1, 1, -1) + across + offset[:, taps:]
    samples = sample(x, rows, columns) * mask[:, None]  # [B, C, K * K, h, w]
    laid_out = samples.unflatten(2, (kernel, kernel)).permute(0, 1, 4, 2, 5, 3)  # [B, C, h, K, w, K]
    laid_out = laid_out.reshape(batch, -1, height * kernel, width * kernel)
    return functional.conv2d(laid_out, weight, stride=kernel)


class DeformConv2d(nn.Module):
    """Offsets and modulation come from convolutions of the input."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, padding: int = 1) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        self.conv = nn.Conv2d(inputs, outputs, kernel, kernel, bias=False)
        self.p_conv = nn.Conv2d(inputs, 2 * kernel**2, 3, stride, 1)
        self.m_conv = nn.Conv2d(inputs, kernel**2, 3, stride, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = self.m_conv(x).sigmoid()
        return deform_conv(x, self.p_conv(x), mask, self.conv.weight, self.stride, self.padding)

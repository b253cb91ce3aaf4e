"""Pooling of regions, adaptive and position-sensitive, for `operator_check`; maps are [H, W, C] and boxes [R, 4]."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType

import numpy as np
import torch
from operator_check import Arrays, Case

import jaxdet.ops as ops

HEIGHT, WIDTH, SIZE, SCALE = 13, 17, (2, 3), 1 / 4


def regions(channels: int, dtype: np.dtype) -> Arrays:
    """A map whose values often tie, and boxes inside, across its borders, far outside, tiny, empty and inverted."""
    rng = np.random.default_rng(0)
    map_ = np.round(rng.normal(0, 3, (HEIGHT, WIDTH, channels)))
    size = np.array([WIDTH, HEIGHT]) / SCALE
    corner = rng.uniform(-20, size, (40, 2))
    usual = np.concatenate([corner, corner + rng.uniform(0, 70, (40, 2))], axis=1)
    special = [
        [0, 0, *size], [-30, -30, 150, 150], [-400, 10, 500, 14], [10, -400, 12, 500], [4, 4, 4, 4], [20, 20, 20.5, 21],
        [20, 8, 10, 30], [10, 30, 20, 8], [20, 30, 10, 8], [500, 500, 600, 600], [-90, -90, -50, -50],
        [2, 2, 10, 10], [6, 6, 14, 14], [-2, -6, 10, 18],  # ends on halves of a cell
        [size[0] - 4, size[1] - 4, *size], [-1e6, 0, -9e5, 9], [8, 8, 24, 24], [8, 8, 32, 40],
    ]  # fmt: skip
    return map_.astype(dtype), np.concatenate([usual, special]).astype(dtype)


def upright_regions(channels: int, dtype: np.dtype) -> Arrays:
    """Without inverted boxes, which torchvision's aligned and adaptive kernel takes for a memory error."""
    map_, boxes = regions(channels, dtype)
    return map_, boxes[(boxes[:, 2:] >= boxes[:, :2]).all(axis=1)]


def in_torch(operator: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def run(map_: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        return operator(map_.permute(2, 0, 1)[None].contiguous(), [boxes]).permute(0, 2, 3, 1)

    return run


def cases(torchvision: ModuleType) -> list[Case]:
    found = []
    for name, channels, options in [
        ("roi_align", 2, {"sampling_ratio": -1}),
        ("roi_align", 2, {"sampling_ratio": 0, "aligned": True}),
        ("roi_pool", 3, {}),
        ("ps_roi_align", 12, {}),
        ("ps_roi_align", 12, {"sampling_ratio": 2}),
        ("ps_roi_pool", 12, {}),
    ]:
        ours, theirs = (
            partial(getattr(module, name), output_size=SIZE, spatial_scale=SCALE, **options)
            for module in (ops, torchvision.ops)
        )
        inputs = partial(upright_regions if options.get("aligned") else regions, channels)
        found.append(Case(f"{name}, {options}", inputs, ours, in_torch(theirs), 1, (4e-6, 2e-5)))
    return found

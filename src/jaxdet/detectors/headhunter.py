"""HeadHunter (Sundararaman et al., CVPR 2021): heads in dense crowds, as a Faster R-CNN under the original's options.

Class 1 is a head. The anchors are one size a level, the median of heads in a benchmark; the original lists more sizes
than there are levels, and those left over never had an effect.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from jaxdet.backbones import MobileNetV1Config, ResNetConfig
from jaxdet.config import nearest
from jaxdet.detectors.config import BackboneConfig, DetectorTransform, FasterRCNNConfig, FPNConfig
from jaxdet.heads import AnchorGenerator, BoxConfig, RPNConfig
from jaxdet.necks import ContextConfig
from jaxdet.ops.soft_nms import SoftNMS

ReturnLayers = tuple[str, ...] | Mapping[str, int]

# Sizes of the levels, highest resolution first, and the ratios of all of them.
_ANCHORS: dict[str, tuple[tuple[int, int, int, int], tuple[float, float, float]]] = {
    "ScutHead": ((18, 36, 72, 128), (0.5, 1.0, 1.5)),
    "CrowdHuman": ((10, 48, 128, 192), (0.5, 1.0, 2.0)),
    "Combined": ((12, 32, 64, 112), (0.5, 1.0, 1.5)),
    "HeadHunter": ((12, 18, 24, 32), (0.5, 1.0, 1.5)),
}
_ALIASES = {"CHuman": "CrowdHuman", "hh_anchors": "HeadHunter"}
_PLAIN_ANCHORS = ((32, 64, 128, 256), (0.5, 1.0, 2.0))  # median_anchors=False: torchvision's

_MEAN_STD = {
    "image_mean": (117 / 255, 110 / 255, 105 / 255),
    "image_std": (67.10 / 255, 65.45 / 255, 66.23 / 255),
}
_POOLED_KEYS = range(4)  # of return_layers: RoI pooling of the original sees the levels with these alone

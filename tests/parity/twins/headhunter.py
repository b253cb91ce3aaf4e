"""HeadHunter (Sundararaman et al., CVPR 2021) in PyTorch on torchvision's parts, under the original's names.

torchvision has to be imported before this file (`torchvision_cpu`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torchvision.models import resnet
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from parity.twins.deform_conv import DeformConv2d
from parity.twins.mobilenet_v1 import MobileNetV1
from parity.twins.soft_nms import soft_nms

BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet152": (3, 8, 36, 3)}
COMBINED = ((12,), (32,), (64,), (112,))
RATIOS = (0.5, 1.0, 1.5)
SMALL = 64  # channels up to which LeakyReLU has a slope
SLOPE = 0.1


def conv_bn(inputs: int, outputs: int, kernel: int = 3, *, slope: float | None = None) -> nn.Sequential:
    """Convolution and norm, with LeakyReLU where a slope is given."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([] if slope is None else [nn.LeakyReLU(slope)]))


class ThreeLevelFPN(nn.Module):
    """RetinaFace's pyramid."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        slope = SLOPE if width <= SMALL else 0.0
        self.output1, self.output2, self.output3 = (conv_bn(inputs, width, 1, slope=slope) for inputs in channels)
        self.merge1, self.merge2 = (conv_bn(width, width, slope=slope) for _ in range(2))

    def forward(self, maps: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        fine, middle, coarse = maps.values()
        fine, middle, coarse = self.output1(fine), self.output2(middle), self.output3(coarse)
        middle = self.merge2(middle + functional.interpolate(coarse, middle.shape[2:], mode="nearest"))
        fine = self.merge1(fine + functional.interpolate(middle, fine.shape[2:], mode="nearest"))
        return OrderedDict(zip(maps, (fine, middle, coarse), strict=True))


class SSH(nn.Module):
    """Three branches of growing reach, side by side."""

    def __init__(self, inputs: int, outputs: int, default_filter: bool = False) -> None:
        super().__init__()
        half, quarter = outputs // 2, outputs // 4
        slope = SLOPE if outputs <= SMALL else 0.0
        middle, large = (3, 3) if default_filter else (5, 7)
        self.conv3X3 = conv_bn(inputs, half)
        self.conv5X5_1 = conv_bn(inputs, quarter, middle, slope=slope)
        self.conv5X5_2 = conv_bn(quarter, quarter, middle)
        self.conv7X7_2 = conv_bn(quarter, quarter, large, slope=slope)
        self.conv7x7_3 = conv_bn(quarter, quarter, large)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shared = self.conv5X5_1(x)
        branches = [self.conv3X3(x), self.conv5X5_2(shared), self.conv7x7_3(self.conv7X7_2(shared))]
        return torch.cat(branches, 1).relu()


class DeformSSH(SSH):
    """The widest branch has a deformable convolution."""

    def __init__(self, inputs: int, outputs: int, default_filter: bool = False) -> None:
        super().__init__(inputs, outputs, default_filter)
        self.conv3X3[0] = DeformConv2d(inputs, outputs // 2)


class CPM(nn.Module):
    """PyramidBox's context: a residual unit of 1024 channels, then SSH's three branches, fused."""

    def __init__(self, inputs: int, outputs: int = 256, features: int = 1024) -> None:
        super().__init__()
        self.branch1 = conv_bn(inputs, features, 1)
        self.branch2a = conv_bn(inputs, 256, 1)
        self.branch2b = conv_bn(256, 256)
        self.branch2c = conv_bn(256, features, 1)
        self.ssh_1 = nn.Conv2d(features, 256, 3, padding=1)
        self.ssh_dimred = nn.Conv2d(features, 128, 3, padding=1)
        self.ssh_2 = nn.Conv2d(128, 128, 3, padding=1)
        self.ssh_3a = nn.Conv2d(128, 128, 3, padding=1)
        self.ssh_3b = nn.Conv2d(128, 128, 3, padding=1)
        self.ssh_final = conv_bn(512, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        deep = self.branch2c(self.branch2b(self.branch2a(x).relu()).relu())
        x = (deep + self.branch1(x)).relu()
        reduced = self.ssh_dimred(x).relu()
        branches = [self.ssh_1(x), self.ssh_2(reduced), self.ssh_3b(self.ssh_3a(reduced).relu())]
        return self.ssh_final(torch.cat(branches, 1)).relu()


class Backbone(nn.Module):
    """Body, pyramid and a context module a level; a fifth level of the pyramid is made and dropped."""

    def __init__(
        self, body: nn.Module, return_layers: dict[str, str], channels: Sequence[int], width: int, context: str | None,
        default_filter: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.body = IntermediateLayerGetter(body, return_layers)
        self.fpn: nn.Module
        if len(channels) == 3:
            self.fpn = ThreeLevelFPN(channels, width)
        else:
            self.fpn = FeaturePyramidNetwork(list(channels), width, LastLevelMaxPool())
        self.out_channels = width
        self.levels = list(return_layers.values())
        for number in range(1, len(channels) + 1 if context else 0):
            module: nn.Module
            if context == "cpm":
                module = CPM(width, width)
            else:
                module = {"ssh": SSH, "deform_ssh": DeformSSH}[context or ""](width, width, default_filter)
            setattr(self, f"ssh{number}", module)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        pyramid = self.fpn(self.body(x))
        maps = {level: pyramid[level] for level in self.levels}
        return OrderedDict(
            (level, getattr(self, f"ssh{number}")(value) if hasattr(self, f"ssh{number}") else value)
            for number, (level, value) in enumerate(maps.items(), start=1)
        )


def upscaling(width: int) -> nn.Module:
    """Exactly twice the height and width."""
    return nn.ConvTranspose2d(width, width, 8, stride=2, padding=3)


def upscaled(part: nn.Module, maps: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    layer = getattr(part, "upscale_feat", None)
    return maps if layer is None else OrderedDict((name, layer(x)) for name, x in maps.items())


class RPN(RegionProposalNetwork):
    """On upscaled maps, where it is to."""

    def forward(self, images: Any, features: dict[str, torch.Tensor], targets: Any = None) -> Any:
        return super().forward(images, upscaled(self, features), targets)


class Heads(RoIHeads):
    """On upscaled maps and with soft-NMS, where they are to."""

    soft_nms = False

    def forward(self, features: dict[str, torch.Tensor], proposals: Any, image_shapes: Any, targets: Any = None) -> Any:
        return super().forward(upscaled(self, features), proposals, image_shapes, targets)

    def postprocess_detections(self, logits: Any, deltas: Any, proposals: Any, shapes: Any) -> Any:
        if not self.soft_nms:
            return super().postprocess_detections(logits, deltas, proposals, shapes)
        limit, threshold = self.detections_per_img, self.nms_thresh
        self.detections_per_img, self.nms_thresh = logits.numel(), 2.0  # nothing suppresses, nothing is cut off
        found = zip(*super().postprocess_detections(logits, deltas, proposals, shapes), strict=True)
        self.detections_per_img, self.nms_thresh = limit, threshold
        kept: list[tuple[Any, ...]] = []
        for boxes, scores, labels in found:
            rows, decayed = soft_nms(boxes.numpy(), scores.numpy())
            rows, decayed = rows[:limit], decayed[:limit]
            kept.append((boxes[rows], torch.tensor(decayed, dtype=scores.dtype), labels[rows]))
        return tuple(map(list, zip(*kept, strict=True)))


class Transform(GeneralizedRCNNTransform):
    """Never enlarges."""

    def resize(self, image: torch.Tensor, target: Any = None) -> tuple[torch.Tensor, Any]:
        short, long = sorted(image.shape[-2:])
        if min(self.min_size[-1] / short, self.max_size / long) >= 1:
            return image, target
        return super().resize(image, target)


def headhunter(
    name: str = "resnet50", *, num_classes: int = 2, levels: int = 4, blocks: Sequence[int] = (), width: int = 0,
    context: str | None = None, default_filter: bool = False, upscale_rpn: bool = False, soft_nms: bool = False,
    custom_sampling: bool = False, two_pooled: bool | None = None, stem: str = "2x2s1", size: int = 1024,
    anchors: Sequence[Sequence[int]] = COMBINED, ratios: Sequence[float] = RATIOS, min_size: int = 800,
    max_size: int = 1333, image_mean: Sequence[float] = (0.485, 0.456, 0.406),
    image_std: Sequence[float] = (0.229, 0.224, 0.225), score_thresh: float = 0.05, detections: int = 100,
    proposals: int = 1000,
) -> GeneralizedRCNN:  # fmt: skip
    """The model in evaluation mode, with PyTorch's initial weights.

    Args:
        name: "resnet50", "resnet152" or "mobilenet".
        levels: of the pyramid; a MobileNet has three.
        blocks: of a smaller ResNet, for quick tests; by default those of its name.
        width: of the pyramid; by default 256, of a MobileNet 64.
        two_pooled: only the first and the last level are named as RoI pooling wants them: ResNet-152's accident.
        stem: of a MobileNet.
        size: of the box head.
        anchors: per level.
    """
    if name == "mobilenet":
        body: nn.Module = MobileNetV1(0.25)
        if stem == "2x2s1":
            body.stage1[0][0] = nn.Conv2d(3, 8, 2, 1, 1, bias=False)
        layers, channels, width = ["stage1", "stage2", "stage3"], [64, 128, 256], width or 64
    else:
        body = resnet.ResNet(resnet.Bottleneck, list(blocks or BLOCKS[name]))
        layers = [f"layer{number}" for number in range(1, 5)][-levels:]
        channels, width = [256, 512, 1024, 2048][-levels:], width or 256
    pooled = ["0", "1", "2", "3"]
    names = pooled[-len(layers) :]
    if two_pooled if two_pooled is not None else name == "resnet152":
        names = ["2", "8", "36", "3"]
    backbone = Backbone(body, dict(zip(layers, names, strict=True)), channels, width, context, default_filter)
    anchors = anchors[: len(layers)]
    generator = AnchorGenerator(tuple(map(tuple, anchors)), (tuple(ratios),) * len(anchors))
    top = {"training": proposals, "testing": proposals}
    foreground = 0.5 if custom_sampling else 0.7
    rpn = RPN(generator, RPNHead(width, len(ratios)), foreground, 0.3, 256, 0.5, top, top, 0.7)
    heads = Heads(
        MultiScaleRoIAlign(pooled, 7, 2), TwoMLPHead(width * 49, size), FastRCNNPredictor(size, num_classes), 0.5,
        0.4 if custom_sampling else 0.5, 512, 0.5 if custom_sampling else 0.25, None, score_thresh, 0.5, detections,
    )  # fmt: skip
    heads.soft_nms = soft_nms
    if upscale_rpn:
        rpn.upscale_feat, heads.upscale_feat = upscaling(width), upscaling(width)
    transform = Transform(min_size, max_size, list(image_mean), list(image_std))
    return GeneralizedRCNN(backbone, rpn, heads, transform).eval()

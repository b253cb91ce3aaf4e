"""One table a source: which name there is which parameter here.

torchvision's ResNets and Faster R-CNNs; HeadHunter; RetinaFace's MobileNetV1; Darknet-53 as the PyTorch listing, timm
and Darknet's own reader name it. A detector's table is its backbone's under ``backbone.body.`` and the parts around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxdet.backbones import BackboneConfig, Darknet53Config, MobileNetV1Config, ResNetConfig
from jaxdet.backbones.darknet import BLOCKS as DARKNET_BLOCKS
from jaxdet.backbones.darknet import STEM_CHANNELS as DARKNET_STEM
from jaxdet.backbones.mobilenet_v1 import STAGES as MOBILENET_STAGES
from jaxdet.models import FasterRCNNConfig, FPNConfig
from jaxdet_convert.read.darknet_file import DarknetLayer
from jaxdet_convert.rules import CONV, CONV_TRANSPOSE, COUNTER, DEPTHWISE, IDENTITY, LINEAR, Rule, Spelling, Table
from jaxdet_convert.rules import Transform as Transform
from jaxdet_convert.rules import flatten_linear as flatten_linear

# Both Faster R-CNNs before torchvision 0.13.
OLD_SPELLINGS = (
    Spelling("rpn.head.conv.{p:weight|bias}", "rpn.head.conv.0.0.{p}"),
    Spelling(
        "backbone.fpn.{kind:inner_blocks|layer_blocks}.{i}.{p:weight|bias}", "backbone.fpn.{kind}.{i}.0.{p}"
    ),
)  # fmt: skip

# A detector's backbone alone, and RetinaFace's whole model.
BARE_SPELLINGS = (
    Spelling("fpn.{kind:inner_blocks|layer_blocks}.{i}.{p:weight|bias}", "backbone.fpn.{kind}.{i}.0.{p}"),
    Spelling("{part:body|fpn}.{x:path}", "backbone.{part}.{x}"),
    Spelling("ssh{i}.{x:path}", "backbone.ssh{i}.{x}"),
)

DARKNET_SOURCES = ("listing", "timm", "darknet")


def norm(source: str, target: str) -> list[Rule]:
    """A batch norm, frozen or not."""
    return [
        Rule(f"{source}.weight", f"{target}.scale"),
        Rule(f"{source}.bias", f"{target}.bias"),
        Rule(f"{source}.running_mean", f"{target}.mean"),
        Rule(f"{source}.running_var", f"{target}.var"),
        Rule(f"{source}.num_batches_tracked", f"{target}.count", COUNTER),
    ]


def conv(source: str, target: str, *, transform: Transform = CONV, bias: bool = False) -> list[Rule]:
    """A convolution; with ``bias`` where one may be there."""
    rules = [Rule(f"{source}.weight", f"{target}.kernel", transform)]
    return [*rules, Rule(f"{source}.bias", f"{target}.bias", IDENTITY)] if bias else rules


def linear(source: str, target: str, transform: Transform = LINEAR) -> list[Rule]:
    """A fully connected layer with its bias."""
    return [Rule(f"{source}.weight", f"{target}.kernel", transform), Rule(f"{source}.bias", f"{target}.bias")]


def _resnet(source: str, target: str) -> list[Rule]:
    block, ours = source + "layer{l}.{b}.", target + "layer{l}.{b}."
    return [
        *conv(source + "conv1", target + "conv1.conv"),
        *norm(source + "bn1", target + "conv1.norm"),
        *conv(block + "conv{c}", ours + "conv{c}.conv"),
        *norm(block + "bn{c}", ours + "conv{c}.norm"),
        *conv(block + "downsample.0", ours + "downsample.conv"),
        *norm(block + "downsample.1", ours + "downsample.norm"),
        *linear(source + "fc", target + "fc"),
    ]


def _mobilenet(source: str, target: str) -> list[Rule]:
    rules = [
        *conv(source + "stage1.0.0", target + "stem.conv"),
        *norm(source + "stage1.0.1", target + "stem.norm"),
        *linear(source + "fc", target + "fc"),
    ]
    for stage, blocks in enumerate(MOBILENET_STAGES, start=1):
        for block in range(len(blocks)):
            theirs = block + 1 if stage == 1 else block  # the stem is the first member of their first stage
            old, new = f"{source}stage{stage}.{theirs}", f"{target}stage{stage}.{block}"
            rules += conv(f"{old}.0", f"{new}.depthwise.conv", transform=DEPTHWISE)
            rules += norm(f"{old}.1", f"{new}.depthwise.norm")
            rules += conv(f"{old}.3", f"{new}.pointwise.conv")
            rules += norm(f"{old}.4", f"{new}.pointwise.norm")
    return rules


def _darknet(source: str, target: str, names: str) -> list[Rule]:
    if names == "timm":
        part, bn, fc = ".conv", ".bn", "head.fc"
        stem, down, block, unit = "stem.conv1", "stages.{}.conv_down", "stages.{}.blocks.{}", "conv{}"
        first = 0
    elif names == "listing":
        part, bn, fc = ".0", ".1", "fc"
        stem, down, block, unit = "conv1", "conv{}", "residual_block{}.{}", "layer{}"
        first = 1
    else:
        part, bn, fc = ".conv", ".bn", "fc"
        stem, down, block, unit = "stem", "stage{}.downsample", "stage{}.blocks.{}", "conv{}"
        first = 1
    rules = conv(f"{source}{stem}{part}", f"{target}stem.conv") + norm(f"{source}{stem}{bn}", f"{target}stem.norm")
    for stage, blocks in enumerate(DARKNET_BLOCKS):
        theirs, ours = stage + first, f"{target}stage{stage + 1}"
        convs = {down.format(theirs + (names == "listing")): f"{ours}.downsample"}
        for index in range(blocks):
            for number in (1, 2):
                old = f"{block.format(theirs, index)}.{unit.format(number)}"
                convs[old] = f"{ours}.blocks.{index}.conv{number}"
        for old, new in convs.items():
            rules += conv(f"{source}{old}{part}", f"{new}.conv") + norm(f"{source}{old}{bn}", f"{new}.norm")
    if names == "darknet":  # its classifier is a 1x1 convolution
        return [*rules, Rule("fc.weight", "fc.kernel", ONE_BY_ONE), Rule("fc.bias", "fc.bias")]
    return rules + linear(source + fc, target + "fc")


ONE_BY_ONE = Transform("one_by_one", lambda a: a[:, :, 0, 0].T, lambda a: a.T[:, :, None, None])
"""[out, in, 1, 1] <-> [in, out]."""


def darknet_layers(num_classes: int) -> list[DarknetLayer]:
    """Darknet-53's convolutions in the order of its ``.weights`` files, named as the table of source "darknet"."""
    layers = [DarknetLayer("stem", DARKNET_STEM, 3, 3)]
    channels = DARKNET_STEM
    for stage, blocks in enumerate(DARKNET_BLOCKS, start=1):
        layers.append(DarknetLayer(f"stage{stage}.downsample", 2 * channels, channels, 3))
        channels *= 2
        for index in range(blocks):
            name = f"stage{stage}.blocks.{index}.conv"
            layers.append(DarknetLayer(name + "1", channels // 2, channels, 1))
            layers.append(DarknetLayer(name + "2", channels, channels // 2, 3))
    return [*layers, DarknetLayer("fc", num_classes, channels, 1, batch_norm=False)]


def backbone_table(config: BackboneConfig, *, source: str = "", target: str = "", names: str = "") -> Table:
    """The table of a classifier; prefixes for where it lies in a detector. ``names``: a Darknet-53's source."""
    match config:
        case ResNetConfig():
            return Table(tuple(_resnet(source, target)))
        case MobileNetV1Config():
            return Table(tuple(_mobilenet(source, target)))
        case Darknet53Config():
            return Table(tuple(_darknet(source, target, names or DARKNET_SOURCES[0])))
    raise ValueError(f"no table for a backbone of type {type(config).__name__}")


def _fpn(config: FPNConfig) -> list[Rule]:
    rules: list[Rule] = []
    if config.kind == "retinaface":
        for theirs, ours, count in (("output", "outputs", 3), ("merge", "merges", 2)):
            for index in range(count):
                rules += conv(f"backbone.fpn.{theirs}{index + 1}.0", f"fpn.{ours}.{index}.conv")
                rules += norm(f"backbone.fpn.{theirs}{index + 1}.1", f"fpn.{ours}.{index}.norm")
        return rules
    for kind in ("inner_blocks", "layer_blocks"):
        rules += conv(f"backbone.fpn.{kind}.{{i}}.0", f"fpn.{kind}.{{i}}.conv", bias=True)
        rules += norm(f"backbone.fpn.{kind}.{{i}}.1", f"fpn.{kind}.{{i}}.norm")
    return rules


_SSH = {
    "conv3X3": "conv3",
    "conv5X5_1": "conv5_1",
    "conv5X5_2": "conv5_2",
    "conv7X7_2": "conv7_2",
    "conv7x7_3": "conv7_3",
}
_CPM_NORMED = "{n:branch1|branch2a|branch2b|branch2c|ssh_final}"
_CPM_PLAIN = "{n:ssh_1|ssh_dimred|ssh_2|ssh_3a|ssh_3b}"


def _context(kind: str | None, source: str, target: str) -> list[Rule]:
    """One level's module. A deformable convolution has its offsets and its modulation beside its kernel."""
    if kind == "cpm":
        rules = conv(f"{source}.{_CPM_NORMED}.0", f"{target}.{{n}}.conv")
        rules += norm(f"{source}.{_CPM_NORMED}.1", f"{target}.{{n}}.norm")
        return rules + conv(f"{source}.{_CPM_PLAIN}", f"{target}.{{n}}.conv", bias=True)
    rules = []
    for theirs, ours in _SSH.items():
        old, new = f"{source}.{theirs}", f"{target}.{ours}"
        if kind == "deform_ssh" and ours == "conv3":
            rules += conv(f"{old}.0.conv", f"{new}.conv")
            rules += conv(f"{old}.0.p_conv", f"{new}.conv.offset", bias=True)
            rules += conv(f"{old}.0.m_conv", f"{new}.conv.modulation", bias=True)
        else:
            rules += conv(f"{old}.0", f"{new}.conv")
        rules += norm(f"{old}.1", f"{new}.norm")
    return rules


def detector_table(config: FasterRCNNConfig, *, names: str = "") -> Table:
    """The table of a Faster R-CNN under torchvision's names, and of a HeadHunter under the original's."""
    assert config.backbone is not None
    body = backbone_table(config.backbone, source="backbone.body.", target="backbone.", names=names)
    side = config.box.output_size
    rules = [*body.rules, *_fpn(config.fpn)]
    context: Any = getattr(config, "context", None)  # of a HeadHunter
    for level in range(len(config.fpn.levels) if config.has_context else 0):
        rules += _context(context.kind, f"backbone.ssh{level + 1}", f"context.{level}")
    for theirs, ours in (("rpn", "rpn_upscale"), ("roi_heads", "box_upscale")):
        rules += conv(f"{theirs}.upscale_feat", ours, transform=CONV_TRANSPOSE, bias=True)
    rules += conv("rpn.head.conv.{i}.0", "rpn_head.conv.{i}.conv", bias=True)
    rules += conv("rpn.head.cls_logits", "rpn_head.cls_logits", bias=True)
    rules += conv("rpn.head.bbox_pred", "rpn_head.bbox_pred", bias=True)
    head = "roi_heads.box_head."
    if config.box.conv_layers:
        for index in range(len(config.box.conv_layers)):
            rules += conv(f"{head}{index}.0", f"box_head.convs.{index}.conv")
            rules += norm(f"{head}{index}.1", f"box_head.convs.{index}.norm")
        flatten = flatten_linear(config.box.conv_layers[-1], side, side)
        rules += linear(f"{head}{len(config.box.conv_layers) + 1}", "box_head.fc", flatten)  # after nn.Flatten
    else:
        rules += linear(head + "fc6", "box_head.fc6", flatten_linear(config.fpn.out_channels, side, side))
        rules += linear(head + "fc7", "box_head.fc7")
    rules += linear("roi_heads.box_predictor.cls_score", "box_predictor.cls_score")
    rules += linear("roi_heads.box_predictor.bbox_pred", "box_predictor.bbox_pred")
    return Table(tuple(rules), OLD_SPELLINGS + BARE_SPELLINGS)


def model_table(config: Any, origin: Sequence[str] = ()) -> Table:
    """The table of any model; of a Darknet-53, under the names that its origin says."""
    names = next((name for name in origin if name in DARKNET_SOURCES), "")
    if isinstance(config, FasterRCNNConfig):
        return detector_table(config, names=names)
    return backbone_table(config, names=names)

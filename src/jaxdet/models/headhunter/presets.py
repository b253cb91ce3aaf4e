"""Named configurations of HeadHunter (Sundararaman et al., CVPR 2021), with the original's options.

Class 1 is a head. There is one anchor size per level, the median head size of a benchmark. The original lists more
sizes than there are levels; the surplus has no effect.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from jaxdet.backbones import MobileNetV1, MobileNetV1Config, ResNet, ResNetConfig
from jaxdet.config import nearest
from jaxdet.heads import AnchorGenerator, BoxConfig, RPNConfig
from jaxdet.models.config import DetectorTransform, FPNConfig
from jaxdet.models.headhunter.config import HeadHunterConfig
from jaxdet.necks import ContextConfig
from jaxdet.ops.suppression.soft import SoftNMS

ReturnLayers = tuple[str, ...] | Mapping[str, int]

# Sizes per level, highest resolution first, and the aspect ratios of all levels.
_ANCHORS: dict[str, tuple[tuple[int, int, int, int], tuple[float, float, float]]] = {
    "ScutHead": ((18, 36, 72, 128), (0.5, 1.0, 1.5)),
    "CrowdHuman": ((10, 48, 128, 192), (0.5, 1.0, 2.0)),
    "Combined": ((12, 32, 64, 112), (0.5, 1.0, 1.5)),
    "HeadHunter": ((12, 18, 24, 32), (0.5, 1.0, 1.5)),
}
_ALIASES = {"CHuman": "CrowdHuman", "hh_anchors": "HeadHunter"}
_PLAIN_ANCHORS = ((32, 64, 128, 256), (0.5, 1.0, 2.0))  # median_anchors=False: torchvision's

# Settings of the original's scripts: the score threshold of each, and the values that both share.
_PRESETS = {"train": 0.05, "evaluate": 0.3}
_DETECTIONS = 300
_MEAN = (117 / 255, 110 / 255, 105 / 255)
_STD = (67.10 / 255, 65.45 / 255, 66.23 / 255)
_POOLED_KEYS = range(4)  # of return_layers; the original's RoI pooling uses only the levels with these keys

_MAPS: dict[type, tuple[str, ...]] = {ResNetConfig: ResNet.names, MobileNetV1Config: MobileNetV1.names}
_USED = ("name", "pretrain", "return_layers", "in_channel", "out_channel", "anchor_sizes", "aspect_ratios")
# The original's name: our preset, the backbone's levels, and the cfg's in_channel (half of the second-last level's).
_NAMES = {
    "Resnet50": ("headhunter_resnet50", ResNet.names, 256),
    "Resnet152": ("headhunter_resnet152", ResNet.names, 256),
    "mobilenet0.25": ("headhunter_mobilenet", MobileNetV1.names, 32),
}


def headhunter_config(
    backbone: ResNetConfig | MobileNetV1Config,
    *,
    return_layers: ReturnLayers | None = None,
    median_anchors: str | bool = True,
    custom_sampling: bool = False,
    soft_nms: SoftNMS | bool | None = False,
    preset: str | None = None,
    num_classes: int = 2,
) -> HeadHunterConfig:
    """HeadHunter on a ResNet or a MobileNetV1. `HeadHunterConfig` has the other options (``context``, ``ohem``, ...).

    Defaults are those of the original's class. The box losses are L1 in the RPN and smooth L1 with beta 1 in the
    second stage, as in the torchvision of that time (later versions: ``rpn_smooth_l1_beta=1 / 9``).

    Args:
        return_layers: the three or four feature maps of the backbone to build the pyramid on. A mapping also gives
            their keys in the original: as there, RoI pooling then uses only those with keys 0 to 3 (two, in the
            original's dictionary for ResNet-152). Three maps give RetinaFace's pyramid, four torchvision's without
            the pooled level.
        median_anchors: the benchmark that the anchor sizes are from: ``"ScutHead"``, ``"CrowdHuman"`` (``"CHuman"``),
            ``"Combined"`` (or True), or the finer ``"HeadHunter"`` (``"hh_anchors"``), which the original defines
            but does not use; False: torchvision's sizes.
        custom_sampling: sample more positives: anchors from an IoU of 0.5, half of the proposals; proposals with an
            IoU between 0.4 and 0.5 are ignored.
        soft_nms: True: as in the original, Gaussian, over all classes, with box areas one pixel wider and higher.
        preset: ``"train"`` or ``"evaluate"``: normalisation, 300 detections and the score threshold of that script of
            the original.

    Raises:
        ValueError: an option has an unknown value.
    """
    levels, pooled = _levels(backbone, return_layers)
    four = len(levels) == 4
    config = HeadHunterConfig(
        backbone=backbone,
        fpn=FPNConfig(
            levels=levels,
            out_channels=256 if isinstance(backbone, ResNetConfig) else 64,
            pool=False,
            kind="torchvision" if four else "retinaface",
        ),
        context=ContextConfig(),
        rpn=RPNConfig(anchor_generator=_median_anchors(median_anchors, len(levels)), smooth_l1_beta=0.0),
        box=BoxConfig(
            smooth_l1_beta=1.0,
            pool_levels=pooled,
            class_agnostic_nms=bool(soft_nms),
        ),
        soft_nms=SoftNMS(plus_one=True) if soft_nms is True else soft_nms or None,
        transform=DetectorTransform(max_size=1400, enlarge=False),
        num_classes=num_classes,
        names=("__background__", "head") if num_classes == 2 else (),
    )
    if custom_sampling:
        config = replace(
            config,
            rpn=replace(config.rpn, fg_iou_thresh=0.5),
            box=replace(config.box, bg_iou_thresh=0.4, positive_fraction=0.5),
        )
    if preset is None:
        return config
    if preset not in _PRESETS:
        raise ValueError(f"preset must be None or one of {', '.join(_PRESETS)}, not {preset!r}")
    return replace(
        config,
        box=replace(config.box, score_thresh=_PRESETS[preset], detections_per_img=_DETECTIONS),
        transform=replace(config.transform, image_mean=_MEAN, image_std=_STD),
    )


PRESETS: Mapping[str, Callable[..., HeadHunterConfig]] = {
    "headhunter_resnet50": partial(headhunter_config, ResNetConfig((3, 4, 6, 3), num_classes=None)),
    "headhunter_resnet152": partial(headhunter_config, ResNetConfig((3, 8, 36, 3), num_classes=None)),
    "headhunter_mobilenet": partial(headhunter_config, MobileNetV1Config(num_classes=None)),
}


def _levels(
    backbone: ResNetConfig | MobileNetV1Config, return_layers: ReturnLayers | None
) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """The levels of the pyramid, highest resolution first, and those that proposals are pooled from (None: all)."""
    known = _MAPS[type(backbone)]
    given = known if return_layers is None else tuple(return_layers)
    unknown = [name for name in given if name not in known]
    if unknown or len(given) not in (3, 4):
        raise ValueError(
            f"return_layers must name three or four feature maps of the backbone ({', '.join(known)}), not "
            f"{len(given)}: {', '.join(given)}"
        )
    levels = tuple(name for name in known if name in given)
    if not isinstance(return_layers, Mapping):
        return levels, None
    pooled = tuple(name for name in levels if int(return_layers[name]) in _POOLED_KEYS)
    if not pooled:
        raise ValueError(f"return_layers needs a key from 0 to 3, or RoI pooling has no level: {return_layers}")
    return levels, None if pooled == levels else pooled


def _median_anchors(benchmark: str | bool, levels: int) -> AnchorGenerator:
    if isinstance(benchmark, bool):
        sizes, ratios = _ANCHORS["Combined"] if benchmark else _PLAIN_ANCHORS
    else:
        known = [*_ANCHORS, *_ALIASES]
        if benchmark not in known:
            raise ValueError(
                f"median_anchors must be True, False or a benchmark ({', '.join(known)}), not {benchmark!r}; "
                f"for other anchors give rpn_anchor_generator{nearest(str(benchmark), known)}"
            )
        sizes, ratios = _ANCHORS[_ALIASES.get(benchmark, benchmark)]
    return AnchorGenerator(sizes[:levels], ratios)


def options_of_cfg(cfg: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name and the options of the model that a ``cfg`` dictionary of the original describes.

    ``name``, ``return_layers``, ``out_channel``, ``anchor_sizes`` and ``aspect_ratios`` have an effect, ``in_channel``
    is checked, ``pretrain`` is left to the caller. A warning lists all other keys.

    Raises:
        ValueError: an unknown backbone, five levels, wrong channels, or too few anchors.
    """
    name = cfg.get("name")
    if name not in _NAMES:
        raise ValueError(f"the cfg's name must be one of {', '.join(_NAMES)}, not {name!r}")
    model, maps, in_channel = _NAMES[name]
    options: dict[str, Any] = {}
    unused = [key for key in cfg if key not in _USED]
    if cfg.get("in_channel", in_channel) != in_channel:
        raise ValueError(f"{name} has in_channel {in_channel}, not {cfg['in_channel']}")
    if "return_layers" in cfg:
        options["return_layers"] = dict(cfg["return_layers"])
    if "out_channel" in cfg:
        options["fpn_out_channels"] = cfg["out_channel"]
    levels = len(cfg.get("return_layers", maps))
    if ("anchor_sizes" in cfg) != ("aspect_ratios" in cfg):
        raise ValueError("the cfg has only one of anchor_sizes and aspect_ratios: give both")
    if "anchor_sizes" in cfg:
        sizes, ratios = (tuple(map(tuple, cfg[key])) for key in ("anchor_sizes", "aspect_ratios"))
        if min(len(sizes), len(ratios)) < levels:
            raise ValueError(f"{levels} levels need anchors each, but the cfg has sizes for {len(sizes)}: {sizes}")
        if len(sizes) > levels:
            unused.append(f"anchor_sizes after the first {levels}")
        options["rpn_anchor_generator"] = AnchorGenerator(sizes[:levels], ratios[:levels])
    if unused:
        logging.getLogger("jaxdet").warning("HeadHunter's cfg: these keys have no effect: %s", ", ".join(unused))
    return model, options

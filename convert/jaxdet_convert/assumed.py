"""What weights do not say of a model and was taken for granted: options that give other boxes where they are wrong."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from jaxdet.backbones import ResNetConfig
from jaxdet.base import ModelConfig
from jaxdet.models import FasterRCNNConfig
from jaxdet.models.options import label, model_options, show, value_at
from jaxdet_convert.recognise_body import RESNETS

_OF_DETECTORS = (
    "min_size", "max_size", "rpn_anchor_generator", "image_mean", "image_std", "bbox_reg_weights", "box_sampling_ratio",
    "box_score_thresh", "box_nms_thresh", "box_detections_per_img", "names",
)  # fmt: skip
_OF_HEADHUNTER = ("rpn_smooth_l1_beta", "box_smooth_l1_beta")
_OF_CLASSIFIERS = ("transform", "names")
# Keywords of HeadHunter's that stand for several options.
_SAY = {
    "preset": ("image_mean", "image_std", "box_score_thresh", "box_detections_per_img"),
    "median_anchors": ("rpn_anchor_generator",),
}


def assumed(name: str, config: ModelConfig, said: Collection[str], *, norm_eps: float | None) -> str:
    """One line of the options that neither the weights nor the caller told, with their values.

    Args:
        name: of the model.
        said: the options that were told.
        norm_eps: its value, where that is assumed too; otherwise None.
    """
    known = {option for keyword, options in _SAY.items() if keyword in said for option in options} | set(said)
    wanted = list(_OF_DETECTORS if isinstance(config, FasterRCNNConfig) else _OF_CLASSIFIERS)
    if name.startswith("headhunter_") and isinstance(config, FasterRCNNConfig):
        wanted += _OF_HEADHUNTER
        if isinstance(config.backbone, ResNetConfig) and config.backbone.blocks == RESNETS["resnet152"]:
            wanted.append("box_pool_levels")
    paths = model_options(config)
    found = [f"{label(option)} {_shown(option, config, paths)}" for option in wanted if option not in known]
    if norm_eps is not None:
        found.append(f"norm_eps {show(norm_eps)}")
    return "; ".join(found)


def _shown(option: str, config: ModelConfig, paths: dict[str, tuple[str, ...]]) -> str:
    value: Any = value_at(config, paths[option])
    if option == "names" and value:
        return f"{value[1] if isinstance(config, FasterRCNNConfig) else value[0]}, ... (COCO's)"
    if option == "box_pool_levels":
        return f"{show(value) if value else 'all'} (the original's: layer1, layer4)"
    return show(value)

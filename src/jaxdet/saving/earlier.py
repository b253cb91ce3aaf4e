"""Configurations that earlier versions wrote, as this one writes them."""

from __future__ import annotations

from typing import Any

_CONTEXT, _UPSCALE, _SOFT_NMS = "context", "upscale_rpn", "soft_nms"


def upgraded_model(config: Any) -> Any:
    """A model's configuration as JSON values; of this version, or no model's at all, it comes back as it is.

    A Faster R-CNN once also held what is HeadHunter's: context modules, upscaling and soft-NMS. Such a
    configuration is a HeadHunter's where it has one of these, RetinaFace's pyramid, or images that are not enlarged.
    """
    if not isinstance(config, dict) or config.get("type") != "FasterRCNNConfig":
        return config
    box = config.get("box")
    if not isinstance(box, dict) or not ({_CONTEXT, _UPSCALE} & config.keys() or _SOFT_NMS in box):
        return config
    context, fpn, transform = (_fields(config.get(name)) for name in (_CONTEXT, "fpn", "transform"))
    is_headhunter = (
        context.get("kind") is not None
        or bool(config.get(_UPSCALE))
        or box.get(_SOFT_NMS) is not None
        or fpn.get("kind", "torchvision") != "torchvision"
        or not transform.get("enlarge", True)
    )
    rest = {name: value for name, value in config.items() if name not in (_CONTEXT, _UPSCALE)}
    rest["box"] = {name: value for name, value in box.items() if name != _SOFT_NMS}
    if not is_headhunter:
        return rest
    own = {name: config[name] for name in (_CONTEXT, _UPSCALE) if name in config}
    own |= {_SOFT_NMS: box[_SOFT_NMS]} if _SOFT_NMS in box else {}
    return {**rest, "type": "HeadHunterConfig", **own}


def _fields(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}

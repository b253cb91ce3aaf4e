"""Conversion of configurations that were written by earlier versions."""

from __future__ import annotations

from typing import Any

_CONTEXT, _UPSCALE, _SOFT_NMS = "context", "upscale_rpn", "soft_nms"


def upgraded_model(config: Any) -> Any:
    """Converts a model's configuration, as JSON values, to this version. Other values are returned unchanged.

    In earlier versions, `FasterRCNNConfig` had HeadHunter's options: context modules, upscaling and soft-NMS. Such a
    configuration becomes a `HeadHunterConfig` if it uses one of these, RetinaFace's pyramid, or images that are not
    enlarged.
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

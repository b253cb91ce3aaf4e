"""Options that weights do not determine and that are therefore assumed. Detections differ if they are wrong."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from jaxdet.base import ModelConfig
from jaxdet.models.classes import class_names
from jaxdet.models.options import label, model_options, show, value_at
from jaxdet_convert.sources.registry import source_of


def assumed(config: ModelConfig, known: Collection[str], *, norm_eps: float | None) -> str:
    """One line with the options that neither the weights nor the caller determine, and their values.

    Args:
        known: the options that they determine.
        norm_eps: the eps of all norms if it is also assumed; otherwise None.
    """
    source = source_of(config)
    implied = {option for keyword, options in source.says.items() if keyword in known for option in options}
    paths = model_options(config)
    found = [
        f"{label(option)} {words or _show(option, config, paths)}"
        for option, words in source.assumed(config).items()
        if option not in implied and option not in known
    ]
    if norm_eps is not None:
        found.append(f"norm_eps {show(norm_eps)}")
    return "; ".join(found)


def _show(option: str, config: ModelConfig, paths: dict[str, tuple[str, ...]]) -> str:
    value: Any = value_at(config, paths[option])
    if option == "names" and value:
        return f"{class_names(config, value)[0]}, ... (COCO's)"
    return show(value)

"""What weights do not say of a model and was taken for granted: options that give other boxes where they are wrong."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from jaxdet.base import ModelConfig
from jaxdet.models.classes import class_names
from jaxdet.models.options import label, model_options, show, value_at
from jaxdet_convert.sources.registry import source_of


def assumed(config: ModelConfig, said: Collection[str], *, norm_eps: float | None) -> str:
    """One line of the options that neither the weights nor the caller told, with their values.

    Args:
        said: the options that were told.
        norm_eps: its value, where that is assumed too; otherwise None.
    """
    source = source_of(config)
    known = {option for keyword, options in source.says.items() if keyword in said for option in options} | set(said)
    paths = model_options(config)
    found = [
        f"{label(option)} {words or _shown(option, config, paths)}"
        for option, words in source.assumed(config).items()
        if option not in known
    ]
    if norm_eps is not None:
        found.append(f"norm_eps {show(norm_eps)}")
    return "; ".join(found)


def _shown(option: str, config: ModelConfig, paths: dict[str, tuple[str, ...]]) -> str:
    value: Any = value_at(config, paths[option])
    if option == "names" and value:
        return f"{class_names(config, value)[0]}, ... (COCO's)"
    return show(value)

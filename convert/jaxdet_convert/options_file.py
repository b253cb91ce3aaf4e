"""The file with a model's options beside its PyTorch weights, which cannot contain them: ``m.json`` for ``m.pth``."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from jaxdet.base import Model, ModelConfig, Task
from jaxdet.models.fit import check_fit
from jaxdet.nn import NormConfig
from jaxdet.paths import is_remote, write_text, write_whole
from jaxdet.saving.description import Description, parse
from jaxdet_convert.export import to_torch
from jaxdet_convert.write import save_torch

_SUFFIX = ".json"


def options_file(weights: str | os.PathLike[str]) -> Path:
    """The path of the options of a weights file: ``m.json`` for ``m.pth``."""
    return Path(weights).with_suffix(_SUFFIX)


def save_model(
    model: Model, path: str | os.PathLike[str], spelling: str | None = None, *, overwrite: bool = False
) -> tuple[Path, int]:
    """Writes a model as a PyTorch state dict, and its options to a file beside it, which `load_torch` reads.

    Args:
        path: the file of the state dict, such as ``m.pth``; the options are written to ``m.json``.
        spelling: see `jaxdet_convert.to_torch`.
        overwrite: replace existing weights and options.

    Returns:
        The path of the options, and the number of tensors.

    Raises:
        ValueError: a file exists, the path is a URL, or the model does not fit its configuration.
        OSError: the folder cannot be written to.
    """
    check_fit(model)
    if is_remote(path):
        raise ValueError(
            f"{os.fspath(path)}: a state dict can only be written to a local disk; give a path there, and copy it"
        )
    path, beside = Path(path), options_file(path)
    if path == beside:
        raise ValueError(f"{path}: {_SUFFIX} is the file of the model's options; name the state dict .pth")
    if path.exists() and not overwrite:
        raise ValueError(f"{path} already exists: overwrite=True (--overwrite) replaces it and {beside.name}")
    if beside.exists():
        try:
            parse(beside.read_bytes())
        except (OSError, ValueError):
            raise ValueError(
                f"{beside} exists and does not contain a model's options, which would replace it: move it away, or "
                "choose another name"
            ) from None
        if not overwrite:
            raise ValueError(f"{beside} already exists: overwrite=True (--overwrite) replaces it")
    tensors = to_torch(model, spelling)
    path.parent.mkdir(parents=True, exist_ok=True)
    before = beside.read_bytes() if beside.exists() else None
    beside.unlink(missing_ok=True)  # an interruption must not leave it beside other weights
    try:
        save_torch(path, tensors)
    except BaseException:
        if before is not None:
            write_whole(beside, before)
        raise
    write_text(beside, Description.of(model).json() + "\n")
    return beside, len(tensors)


def read_options(weights: str | os.PathLike[str]) -> Description | None:
    """The options beside a weights file; None if there is no such file.

    Raises:
        ValueError: the file cannot be read as options.
    """
    if not Path(weights).is_file() or Path(weights).suffix == _SUFFIX:
        return None
    beside = options_file(weights)
    if not beside.is_file():
        return None
    try:
        return parse(beside.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{beside}, the options of {Path(weights).name}, cannot be read: {error}. Correct it, or move it away"
        ) from None


def check_kind(described: ModelConfig, recognised: ModelConfig, beside: Path) -> None:
    """Refuses options of another kind of model than the weights.

    Raises:
        ValueError: the kinds differ.
    """
    ours, theirs = _kind(described), _kind(recognised)
    if ours != theirs:
        raise ValueError(f"{beside} describes {ours}, but the weights are of {theirs}: move it away")


def with_eps(config: Any, eps: float) -> Any:
    """The configuration with this eps in all norms."""
    if isinstance(config, NormConfig):
        return dataclasses.replace(config, eps=eps)
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        return config
    fields = {field.name: with_eps(getattr(config, field.name), eps) for field in dataclasses.fields(config)}
    return dataclasses.replace(config, **fields)


def _kind(config: ModelConfig) -> str:
    backbone = type(config.backbone_config).__name__.removesuffix("Config")
    return f"a {backbone} classifier" if config.task is Task.CLASSIFICATION else f"a detector on a {backbone}"

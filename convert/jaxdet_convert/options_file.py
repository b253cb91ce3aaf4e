"""The options of a model beside its PyTorch weights, which cannot hold them: ``m.json`` of ``m.pth``."""

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
    """Where the options of a weights file lie: ``m.json`` of ``m.pth``."""
    return Path(weights).with_suffix(_SUFFIX)


def save_model(
    model: Model, path: str | os.PathLike[str], spelling: str | None = None, *, overwrite: bool = False
) -> tuple[Path, int]:
    """Writes a model as a PyTorch state dict, and its options beside it, which `load_torch` takes up again.

    Args:
        path: of the state dict, ``m.pth``; the options go to ``m.json``.
        spelling: see `jaxdet_convert.to_torch`.
        overwrite: replace weights and options that are there.

    Returns:
        The path of the options, and how many tensors were written.

    Raises:
        ValueError: something is there already, the path is a URL, or the model does not fit its configuration.
        OSError: the folder cannot be written to.
    """
    check_fit(model)
    if is_remote(path):
        raise ValueError(f"{os.fspath(path)}: a state dict is written to a disk; give a path there, and copy it")
    path, beside = Path(path), options_file(path)
    if path == beside:
        raise ValueError(f"{path}: the model's options go to a {_SUFFIX} file; name the state dict .pth")
    if path.exists() and not overwrite:
        raise ValueError(f"{path} is there already: overwrite=True (--overwrite) replaces it and {beside.name}")
    if beside.exists():
        try:
            parse(beside.read_bytes())
        except (OSError, ValueError):
            raise ValueError(
                f"{beside} is there and does not hold a model's options, which would go there: move it away, or choose "
                "another name"
            ) from None
        if not overwrite:
            raise ValueError(f"{beside} is there already: overwrite=True (--overwrite) replaces it")
    tensors = to_torch(model, spelling)
    path.parent.mkdir(parents=True, exist_ok=True)
    before = beside.read_bytes() if beside.exists() else None
    beside.unlink(missing_ok=True)  # so that a kill cannot leave those of other weights
    try:
        save_torch(path, tensors)
    except BaseException:
        if before is not None:
            write_whole(beside, before)
        raise
    write_text(beside, Description.of(model).json() + "\n")
    return beside, len(tensors)


def read_options(weights: str | os.PathLike[str]) -> Description | None:
    """The options that lie beside a weights file; None where there are none.

    Raises:
        ValueError: the file that lies there holds something else.
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
            f"{beside} lies beside {Path(weights).name}, where a model's options are looked for, and does not read: "
            f"{error}. Correct it, or move it away"
        ) from None


def check_kind(described: ModelConfig, recognised: ModelConfig, beside: Path) -> None:
    """Refuses options that are of another kind of model than the weights.

    Raises:
        ValueError: they are.
    """
    ours, theirs = _kind(described), _kind(recognised)
    if ours != theirs:
        raise ValueError(f"{beside} describes {ours}, and the weights are of {theirs}: move it away")


def with_eps(config: Any, eps: float) -> Any:
    """The configuration with an eps in place of those of all norms."""
    if isinstance(config, NormConfig):
        return dataclasses.replace(config, eps=eps)
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        return config
    fields = {field.name: with_eps(getattr(config, field.name), eps) for field in dataclasses.fields(config)}
    return dataclasses.replace(config, **fields)


def _kind(config: ModelConfig) -> str:
    backbone = type(config.backbone_config).__name__.removesuffix("Config")
    return f"a {backbone} classifier" if config.task is Task.CLASSIFICATION else f"a detector on a {backbone}"

"""Reading training configurations: recipes, Python files, and HeadHunter's YAML files."""

from __future__ import annotations

import runpy
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxdet.config import nearest, override
from jaxdet.data import find_sources, split_source
from jaxdet.runs.config import TrainConfig
from jaxdet.runs.headhunter import read_headhunter
from jaxdet.runs.recipes import RECIPES
from jaxdet.typed import check_field

_YAML = (".yaml", ".yml")


def read_config(
    name: str | Path,
    options: dict[str, Any] | None = None,
    *,
    data: str | Path | None = None,
    headhunter: bool = False,
    val_fraction: float | None = None,
    val_seed: int = 0,
    tell: Callable[[str], object] | None = None,
) -> TrainConfig:
    """Reads the configuration of a recipe or a file, with options.

    Args:
        name: one of `jaxdet.runs.RECIPES`, or the path of a Python file with a function ``config()`` that returns a
            `TrainConfig`, or of a HeadHunter YAML file (`jaxdet.runs.headhunter.read_headhunter`).
        options: fields of `TrainConfig`. Options of nested configurations begin with ``model_``, ``train_``, ``val_``,
            ``optimizer_`` and ``augment_``. The error for an unknown option suggests similar ones.
        data: a folder with a training and a validation set in any layout of `jaxdet.data.find_sources`.
        headhunter: read the file as a HeadHunter YAML file, whatever its suffix.
        val_fraction: hold out this fraction of the training images as validation set, if there is none;
            val_seed: selects them (`jaxdet.data.SplitPart`).
        tell: called with a line for everything that differs from the original HeadHunter.

    Raises:
        ValueError: ``name`` is neither a recipe nor a file, or the file has no ``config()`` that returns a
            `TrainConfig`; or there is a validation set in addition to ``val_fraction``.
    """
    if headhunter or Path(name).suffix in _YAML:
        run = read_headhunter(name)
        config = run.config
        if tell is not None:
            for line in run.notes:
                tell(line)
    elif str(name) in RECIPES:
        config = RECIPES[str(name)]()
    elif Path(name).is_file():
        config = _from_file(Path(name))
    else:
        hint = nearest(str(name), RECIPES)
        raise ValueError(f"{name}: no such configuration file or recipe; recipes: {', '.join(RECIPES)}{hint}")
    if data is not None:
        train, val = find_sources(data)
        config = replace(config, train=train, val=val)
    options = dict(options or {})
    # They replace each other, as a run has only one of them.
    length = {key: options.pop(key) for key in ("steps", "epochs") if key in options}
    for key, value in length.items():
        length[key] = check_field(config, key, key, value)
    if len(length) == 1:
        config = replace(config, steps=length.get("steps"), epochs=length.get("epochs"))
    elif length:
        raise ValueError("give a run either steps or epochs, not both")
    config = override(config, options)
    return config if val_fraction is None else hold_out(config, val_fraction, val_seed)


def hold_out(config: TrainConfig, fraction: float, seed: int = 0) -> TrainConfig:
    """Splits the training set into a training and a validation set. Raises ValueError if there is a validation set."""
    if config.val is not None:
        raise ValueError(f"there is a validation set, {config.val}: leave out --val-fraction")
    train, val = split_source(config.train, fraction, seed=seed)
    return replace(config, train=train, val=val)


def _from_file(path: Path) -> TrainConfig:
    try:
        function = runpy.run_path(str(path)).get("config")
        config = function() if callable(function) else None
    except Exception as error:  # any error of the user's code
        raise ValueError(f"{path}{_line(path, error)}: {type(error).__name__}: {error}") from error
    if not callable(function):
        raise ValueError(f"{path}: no function config(); define one that returns a jaxdet.runs.TrainConfig")
    if not isinstance(config, TrainConfig):
        raise ValueError(f"{path}: config() returned a {type(config).__name__}, not a jaxdet.runs.TrainConfig")
    return config


def _line(path: Path, error: Exception) -> str:
    """The line of the file where an error occurred, as ``":12"``; empty if it is unknown."""
    if isinstance(error, SyntaxError):
        return f":{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f":{lines[-1]}" if lines else ""

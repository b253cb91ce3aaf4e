"""What tells one run from another: its configuration and its data, kept beside its checkpoints."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from jaxdet.paths import parse_json, write_text
from jaxdet.runs.task import Task
from jaxdet.training import Epochs, Steps
from jaxdet.training.spans import Span

RECORD, FORMAT = "run.json", 2
# How a run is watched, kept and fed; none of it changes what it computes.
_FREE = (
    "workers", "log_every", "eval_every", "eval_losses", "eval_batch_size", "checkpoint_every", "keep", "keep_every",
    "torch_weights", "val",
)  # fmt: skip
_LONGEST = 100


def make_record(task: Task) -> dict[str, Any]:
    """The configuration, as plain JSON values, and a digest of the training data's index."""
    config = {field.name: _plain(getattr(task.config, field.name)) for field in dataclasses.fields(task.config)}
    return {"format": FORMAT, "config": config, "data": {"pictures": len(task.train), "digest": task.digest()}}


def check_record(out: Path, record: dict[str, Any]) -> None:
    """Keeps the record of a new run; compares that of a run which is there already.

    Raises:
        ValueError: the folder holds a run of another configuration or of other data; what differs is named.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / RECORD
    if path.is_file():
        try:
            old = upgraded(parse_json(path.read_bytes()))
            config, data = old["config"], old["data"]
            pictures = data["pictures"]
            if type(pictures) is not int or not isinstance(config, dict):
                raise ValueError("its 'config' is no object, or its count of pictures no integer")
            differing = _differences(config, record["config"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else error
            raise ValueError(f"{path} does not read ({reason}); take another folder for this run") from None
        if differing:
            raise ValueError(
                f"{out} holds a run with another configuration; by its {RECORD} these differ: {', '.join(differing)}. "
                "Go on with the same, or take another folder"
            )
        if data != record["data"]:
            raise ValueError(
                f"{out} holds a run on other data by its {RECORD} ({pictures} pictures, now "
                f"{record['data']['pictures']}, or other boxes); go on with the same, or take another folder"
            )
    write_text(path, json.dumps(record, indent=1))


def upgraded(record: dict[str, Any]) -> dict[str, Any]:
    """A record as this version writes it: before format 2, milestones and ``eval_every`` had no unit of their own."""
    if record.get("format") != 1:
        return record
    config = record["config"]
    unit: type[Steps] | type[Epochs] = Steps if config["epochs"] is None else Epochs
    optimizer = config["optimizer"] | {"milestones": [str(unit(mark)) for mark in config["optimizer"]["milestones"]]}
    every = config["eval_every"]
    config = config | {"optimizer": optimizer, "eval_every": None if every is None else str(unit(every))}
    return record | {"format": FORMAT, "config": config}


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for name in sorted(old.keys() | new.keys()):
        if not prefix and name in _FREE:
            continue
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            found += _differences(before, after, f"{prefix}{name}.")
        elif before != after:
            found.append(f"{prefix}{name} (was {_short(before)}, now {_short(after)})")
    return found


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _plain(value: Any) -> Any:
    """JSON values of a configuration; code goes by its name, whatever else has no such form by its type."""
    if isinstance(value, Span):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"type": type(value).__qualname__, **fields}
    if isinstance(value, (list, tuple)):  # a long one is data, which the digest knows
        return [_plain(item) for item in value] if len(value) <= _LONGEST else f"{len(value)} items"
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return getattr(value, "__qualname__", None) or type(value).__qualname__

"""The record of a run: its configuration and its data, stored with its checkpoints."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from jaxdet.models.registry import CONFIG_TYPES
from jaxdet.paths import parse_json, write_text
from jaxdet.runs.task import Task
from jaxdet.saving.earlier import upgraded_model
from jaxdet.saving.run_folder import RECORD
from jaxdet.training import Epochs, Steps
from jaxdet.training.spans import Span

FORMAT = 2
# Options of logging, evaluation, checkpoints and workers, which do not change the trained parameters.
_FREE = (
    "workers", "log_every", "eval_every", "eval_losses", "eval_batch_size", "checkpoint_every", "keep", "keep_every",
    "torch_weights", "val",
)  # fmt: skip
_LONGEST = 100


def make_record(task: Task) -> dict[str, Any]:
    """The record of a run: its configuration as JSON values, its length in steps, and a digest of the training set."""
    config = {field.name: _plain(getattr(task.config, field.name)) for field in dataclasses.fields(task.config)}
    length = {
        "steps": task.length.steps,
        "steps_per_epoch": task.plan.steps_per_epoch,
        "milestones": list(task.length.optimizer.milestones),
    }
    data = {"pictures": len(task.train), "digest": task.digest()}
    return {"format": FORMAT, "config": config, "length": length, "data": data}


def check_record(out: Path, record: dict[str, Any]) -> dict[str, Any] | None:
    """Compares a run's record with the one in its folder, if any, and returns the ``from`` of the latter.

    Raises:
        ValueError: the folder has a run with another configuration or other data; the message lists the differences.
    """
    path = out / RECORD
    if not path.is_file():
        return None
    try:
        old = read_record(path)
    except ValueError as error:
        raise ValueError(f"{error}; give another folder for this run") from None
    differing = _differences(old["config"], record["config"])
    if differing:
        raise ValueError(
            f"{out} has a run with another configuration; by its {RECORD} these options differ: "
            f"{', '.join(differing)}. Use the same to resume it, or another folder; --from {out} --out NEW continues "
            "it with these changes"
        )
    if old["data"] != record["data"]:
        raise ValueError(
            f"{out} has a run on other data by its {RECORD} ({old['data']['pictures']} images, now "
            f"{record['data']['pictures']}, or other boxes). Use the same to resume it, or another folder; "
            f"--from {out} --out NEW continues it with other data"
        )
    return old.get("from")


def read_record(path: Path) -> dict[str, Any]:
    """Reads a run's record, of this version or an earlier one, converted to this version.

    Raises:
        ValueError: the file cannot be read or is not a run's record.
    """
    try:
        record = _upgraded(parse_json(path.read_bytes()))
        if not isinstance(record["config"], dict) or type(record["data"]["pictures"]) is not int:
            raise ValueError("its 'config' is not an object, or its number of images not an integer")
        if not isinstance(record.get("from", {"run": ""})["run"], str):
            raise ValueError("its 'from' has no run")
        length = record.get("length")
        if length is not None:
            counts = (length["steps"], length["steps_per_epoch"], *length["milestones"])
            if not all(type(count) is int and count > 0 for count in counts):
                raise ValueError(f"its 'length' is {_short(length)}")
        json.dumps(record)  # raises for values that are nested too deeply for a message
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path} cannot be read ({reason})") from None
    return record


def keep_record(out: Path, record: dict[str, Any]) -> None:
    """Writes a run's record to its folder, which is created if necessary."""
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / RECORD, json.dumps(record, indent=1))


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The differences of two records, one line each: all fields of the configuration, and the data."""
    found = _differences(old["config"], new["config"], free=())
    if old["data"] != new["data"]:
        before, after = old["data"]["pictures"], new["data"]["pictures"]
        counts = f"was {before} images, now {after}" if before != after else f"{after} images, but others"
        found.append(f"data ({counts})")
    return found


def _upgraded(record: dict[str, Any]) -> dict[str, Any]:
    """A record as this version writes it.

    Before format 2, milestones and ``eval_every`` had no unit of their own; the crowd metrics were called "heads".
    """
    if not isinstance(record["config"], dict):
        return record  # read_record raises an error
    config = dict(record["config"])
    if config.get("metrics") == "heads":
        config["metrics"] = "crowd"
    if "model" in config:
        config["model"] = upgraded_model(config["model"])
    if record.get("format") != 1:
        return record | {"config": config}
    unit: type[Steps] | type[Epochs] = Steps if config.get("epochs") is None else Epochs
    if config.get("eval_every") is not None:
        config["eval_every"] = str(unit(config["eval_every"]))
    if "optimizer" in config:
        marks = [str(unit(mark)) for mark in config["optimizer"].get("milestones", ())]
        config["optimizer"] = config["optimizer"] | {"milestones": marks}
    return record | {"format": FORMAT, "config": config}


def _differences(
    old: dict[str, Any], new: dict[str, Any], prefix: str = "", free: tuple[str, ...] = _FREE
) -> list[str]:
    found = []
    for name in sorted(old.keys() | new.keys()):
        if not prefix and name in free:
            continue
        before = old[name] if name in old else _default(new.get("type"), name)
        after = new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            found += _differences(before, after, f"{prefix}{name}.")
        elif before != after:
            found.append(f"{prefix}{name} (was {_short(before)}, now {_short(after)})")
    return found


def _default(kind: Any, name: str) -> Any:
    """The value of a field that a record of an earlier version does not have: its default."""
    if kind not in CONFIG_TYPES:
        return None
    field = next((one for one in dataclasses.fields(CONFIG_TYPES[kind]) if one.name == name), None)
    return None if field is None or field.default is dataclasses.MISSING else _plain(field.default)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _plain(value: Any) -> Any:
    """A configuration as JSON values. Functions, classes and the types of other objects are named."""
    if isinstance(value, Span):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"type": type(value).__qualname__, **fields}
    if isinstance(value, (list, tuple)):  # long lists are data, which the digest covers
        return [_plain(item) for item in value] if len(value) <= _LONGEST else f"{len(value)} items"
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return getattr(value, "__qualname__", None) or type(value).__qualname__

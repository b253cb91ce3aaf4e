"""YAML files with the keys and types of values of HeadHunter's: pre-training, fine-tuning and SCUT-HEAD."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BASE: dict[str, dict[str, Any]] = {
    "DATASET": {
        "base_path": "", "train": "train.txt", "valid": "val.txt", "benchmark": "Combined",
        "mean_std": [[117, 110, 105], [67.10, 65.45, 66.23]], "min_size": 800, "max_size": 1400,
    },
    "TRAINING": {
        "exp_name": "heads", "backbone": "resnet50", "only_backbone": False, "pretrained_model": None,
        "save_dir": "<where models go>", "start_epoch": 1, "eval_every": 5, "log_dir": "./logs/",
        "milestones": [10, 25, 40], "max_epoch": 50,
    },
    "HYPER_PARAM": {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 0.0005, "gamma": 0.1, "batch_size": 1},
    "NETWORK": {
        "use_deform": False, "ohem": True, "context": "cpm", "custom_sampling": False, "soft_nms": False,
        "upscale_rpn": True, "median_anchors": True,
    },
}  # fmt: skip
# Values of the other two files that differ.
FINE_TUNING = {
    "max_size": 1333, "pretrained_model": "pretrained", "milestones": [5, 10, 20, 35], "max_epoch": 40,
    "learning_rate": 0.001, "gamma": 0.5, "upscale_rpn": False,
}  # fmt: skip
SCUT_HEAD = {
    "benchmark": "ScutHead", "min_size": 600, "max_size": 1100, "eval_every": 10, "milestones": [10, 20, 25],
    "max_epoch": 30, "batch_size": 2,
}  # fmt: skip


def write_yaml(file: Path, base_path: Path, /, **changes: Any) -> Path:
    """Writes the pre-training file with some values changed. A key with the value ``...`` is left out."""
    sections: dict[str, dict[str, Any]] = {}
    for name, section in BASE.items():
        values = {key: changes.pop(key, value) for key, value in section.items()}
        sections[name] = {key: value for key, value in values.items() if value is not ...}
    sections["DATASET"]["base_path"] = sections["DATASET"]["base_path"] or str(base_path)
    assert not changes, changes
    lines: list[str] = []
    for name, section in sections.items():
        lines += [f"{name}:", *(f"  {key}: {json.dumps(value)}" for key, value in section.items())]  # JSON is YAML
    file.write_text("\n".join([*lines, ""]))
    return file

"""Files of runs: configurations, records, packed indices, results."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import jaxdet
from headhunter_yaml import write_yaml
from jaxdet.config import to_dict
from jaxdet.data import CocoFiles, DataError, DetectionDataset, PackedFolder, ground_truth
from jaxdet.data_report.pack import pack
from jaxdet.detect.join import write_coco
from jaxdet.detect.parts import Found, Part, read_parts
from jaxdet.evaluation import CocoEvaluator
from jaxdet.models import detector_config
from jaxdet.nn import Numerics
from jaxdet.runs.headhunter import HeadHunterRun, read_headhunter
from jaxdet.runs.record import RECORD, check_record, differences, read_record
from jaxdet.saving.model import read_description
from jaxdet.saving.run_folder import read_rows
from robustness.attempt import Format
from robustness.formats_boxes import HEIGHT, WIDTH, _make_coco, draw, first_line, use_dataset, write

# ---- HeadHunter's YAML


def _make_yaml(folder: Path) -> Path:
    for name in ("1.png", "2.png"):
        draw(folder / name)
    for split in ("train", "val"):
        write(folder / f"{split}.txt", "# 1.png\n1 2 11 12 0\n# 2.png\n3 2 9 9 1\n")
    return write_yaml(folder / "config.yaml", folder)


def _use_headhunter(run: HeadHunterRun) -> None:
    json.dumps(to_dict(run.config.model))
    "\n".join(run.notes).encode()


# ---- packed sets


def _make_packed(folder: Path) -> Path:
    dataset = CocoFiles(str(_make_coco(folder)), str(folder / "images")).open()
    pack(dataset, folder / "packed", progress=False)
    return folder / "packed" / "index.json"


def _make_packed_truth(folder: Path) -> Path:
    return _make_packed(folder).with_name("ground_truth.json")


def _open_packed(file: Path) -> Any:
    dataset = PackedFolder(str(file.parent)).open()
    if isinstance(dataset, DetectionDataset):
        ground_truth(dataset)
    return dataset


def _use_packed(dataset: Any) -> None:
    if isinstance(dataset, DetectionDataset):
        use_dataset(dataset)


# ---- COCO's results


def _truth() -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "1.png", "height": HEIGHT, "width": WIDTH}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 8, 8]}],
        "categories": [{"id": 3, "name": "cat"}],
    }


def _make_results(folder: Path) -> Path:
    entries = [
        {"image_id": 1, "category_id": 3, "bbox": [1, 2, 8, 8], "score": 0.9},
        {"image_id": 1, "category_id": 3, "bbox": [1.5, 2, 8.25, 7], "score": 0.25},
    ]
    return write(folder / "results.json", json.dumps(entries))


def _open_results(file: Path) -> CocoEvaluator:
    evaluator = CocoEvaluator(_truth())
    evaluator.read(file)
    return evaluator


def _use_results(evaluator: CocoEvaluator) -> None:
    assert all(np.isfinite(list(evaluator.evaluate().values())))


# ---- models and runs


def _make_model(folder: Path) -> Path:
    names = ("__background__", "cat", "dog")
    config = replace(detector_config("fasterrcnn_resnet50_fpn"), num_classes=len(names), names=names)
    description = {
        "format": 1,
        "config": to_dict(config),
        "numerics": to_dict(Numerics()),
        "origin": ["torchvision"],
    }
    return write(folder / "model" / "model.json", json.dumps(description, indent=1))


def _open_model(file: Path) -> Any:
    return read_description(file.parent)


def _make_saved(folder: Path) -> Path:
    jaxdet.save(jaxdet.create_model("mobilenet_v1", width=0.25, num_classes=2), folder / "model")
    return folder / "model" / "model.json"


def _load(file: Path) -> Any:
    return jaxdet.load(file.parent)


_RECORD = {
    "format": 2,
    "config": {"type": "TrainConfig", "model": {"type": "FasterRCNNConfig", "num_classes": 3}, "steps": 10, "seed": 0},
    "length": {"steps": 10, "steps_per_epoch": 2, "milestones": [4, 8]},
    "data": {"pictures": 2, "digest": "0123456789abcdef"},
}


def _make_record(folder: Path) -> Path:
    return write(folder / RECORD, json.dumps(_RECORD, indent=1))


def _open_record(file: Path) -> dict[str, Any]:
    return read_record(file)


def _use_record(record: dict[str, Any]) -> None:
    "\n".join(differences(record, _RECORD)).encode()


def _compare_record(file: Path) -> None:
    check_record(file.parent, _RECORD)


def _make_metrics(folder: Path) -> Path:
    rows = [
        {"step": 1, "loss": 1.5, "learning_rate": 0.01, "gradient_norm": 2.0},
        {"step": 2, "val/AP": 0.5, "val/APs": -1.0},
        {"step": 3, "loss": 1.25, "learning_rate": 0.01, "gradient_norm": 1.0},
    ]
    return write(folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def _use_metrics(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert row["step"] == int(row["step"]) and all(f"{value:.3f}" for value in row.values())


def _make_part(folder: Path) -> Path:
    with Part(folder, 0) as part:
        boxes, labels = np.array([[1, 2, 8.5, 9]], np.float32), np.array([1], np.int32)
        part.add(Found("1.png", (HEIGHT, WIDTH), boxes, labels, np.array([0.75], np.float32)))
        part.add(Found("2.png", error="is no image"))
    return folder / "part-00000.jsonl"


def _open_part(file: Path) -> tuple[Path, dict[str, Found]]:
    return file.parent, read_parts(file.parent)


def _use_found(opened: tuple[Path, dict[str, Found]]) -> None:
    folder, found = opened
    write_coco(folder.parent / "found.json", list(found.values()), (), 3)


def _use_part(opened: tuple[Path, dict[str, Found]]) -> None:
    """Goes on with it: what was read before is kept."""
    _use_found(opened)
    folder, found = opened
    with mock.patch("os.fsync"), Part(folder, 0) as part:  # the disk would take most of the time
        part.add(Found("another.png", error="is no image"))
    assert read_parts(folder).keys() == found.keys() | {"another.png"}


# With its arrays, which takes half a second a time.
SAVED = Format("saved model", "json", ValueError, _make_saved, _load)
RUNS: tuple[Format, ...] = (
    Format("HeadHunter YAML", "text", ValueError, _make_yaml, read_headhunter, _use_headhunter),
    Format("packed index", "json", DataError, _make_packed, _open_packed, _use_packed),
    Format("packed ground truth", "json", DataError, _make_packed_truth, _open_packed, _use_packed),
    Format("COCO results", "json", DataError, _make_results, _open_results, _use_results),
    Format("model.json", "json", ValueError, _make_model, _open_model),
    Format("metrics", "text", ValueError, _make_metrics, read_rows, _use_metrics),
    Format(
        "metrics entry", "json", ValueError, _make_metrics, read_rows, _use_metrics, first_line,
        lambda line: line + b'\n{"step": 2, "loss": 1.0}\n',
    ),
    Format("detections", "text", ValueError, _make_part, _open_part, _use_part),
    Format(
        "detections entry", "json", ValueError, _make_part, _open_part, _use_found, first_line,
        lambda line: line + b'\n{"file": "2.png", "error": "is no image"}\n',
    ),
    Format("run.json", "json", ValueError, _make_record, _open_record, _use_record),
    Format("run.json of the same run", "json", ValueError, _make_record, _compare_record),
)  # fmt: skip

"""File names in a run's folder, and reading its metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxdet.paths import parse_json

RECORD, METRICS_FILE = "run.json", "metrics.jsonl"
Row = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """The rows of a metrics file, up to the first truncated or damaged one; none if the file does not exist."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_bytes().splitlines():
        try:
            row = parse_json(line)
        except ValueError:
            break
        if not isinstance(row, dict) or type(row.get("step")) is not int or not all(map(_is_number, row.values())):
            break
        rows.append(row)
    return rows


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**63)

"""Packing of a dataset into a few large files, for disks and buckets that are slow with many small files."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from jaxdet.data import ClassificationDataset, DataError, DetectionDataset
from jaxdet.data.formats.packed import GROUND_TRUTH_FILE, INDEX_FILE, index_content, shard_name
from jaxdet.paths import PathLike, is_remote, to_path
from jaxdet.saving.disk import put_in_place, remove

SHARD_BYTES = 256 << 20
_OPTIONS = "group_size:1,uncompressed"  # records are read one by one, and images are already compressed


def pack(
    dataset: DetectionDataset | ClassificationDataset,
    folder: PathLike,
    *,
    shard_bytes: int = SHARD_BYTES,
    progress: bool = True,
) -> tuple[int, ...]:
    """Writes a dataset as ArrayRecord shards and an index, to be read by `jaxdet.data.PackedFolder`.

    The encoded bytes of the image files, boxes, labels, ids and ignored regions are kept; COCO ground truth is kept
    without its masks. The folder appears once it is complete.

    Args:
        folder: a new folder, or a URL. For a URL the shards are first written to a temporary folder.
        shard_bytes: a shard is closed once it has at least this size.

    Returns:
        The number of images in each shard.

    Raises:
        DataError: ``folder`` is not empty, or an image cannot be read. Nothing is written then.
    """
    target = to_path(folder)
    if target.exists() and any(target.iterdir()):
        raise DataError(f"{folder} exists and is not empty: remove it, or choose another folder")
    with ExitStack() as stack:
        if is_remote(target):
            staging = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            staging = target.absolute().with_name(f".{target.name}-{os.getpid()}")
            stack.callback(remove, staging)
            staging.mkdir()
        shards = _write_shards(dataset, staging, shard_bytes, progress)
        truth = dataset.own_ground_truth() if isinstance(dataset, DetectionDataset) else None
        if truth is not None:
            (staging / GROUND_TRUTH_FILE).write_text(json.dumps(_without_masks(truth)))
        (staging / INDEX_FILE).write_text(json.dumps(index_content(dataset, shards)))
        if is_remote(target):
            _upload(staging, target)
        else:
            put_in_place(staging, target)
    return shards


def _write_shards(dataset: Any, folder: Path, shard_bytes: int, progress: bool) -> tuple[int, ...]:
    from array_record.python.array_record_module import ArrayRecordWriter

    shards: list[int] = []
    writer, size = None, 0
    try:
        for index in tqdm(range(len(dataset)), desc="pack", unit="image", disable=not progress, leave=False):
            if writer is None:
                writer, size = ArrayRecordWriter(str(folder / shard_name(len(shards))), _OPTIONS), 0
                shards.append(0)
            content = dataset.encoded(index)
            writer.write(content)
            shards[-1] += 1
            size += len(content)
            if size >= shard_bytes:
                writer.close()
                writer = None
    finally:
        if writer is not None:
            writer.close()
    return tuple(shards)


def _upload(staging: Path, target: Path) -> None:
    """Uploads the index last, because a folder without an index is not read as a dataset."""
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(staging.iterdir(), key=lambda file: file.name == INDEX_FILE):
        with file.open("rb") as source, (target / file.name).open("wb") as sink:
            while part := source.read(1 << 24):
                sink.write(part)


def _without_masks(truth: dict[str, Any]) -> dict[str, Any]:
    annotations = [{key: entry[key] for key in entry if key != "segmentation"} for entry in truth["annotations"]]
    return {**{key: truth[key] for key in ("images", "categories")}, "annotations": annotations}

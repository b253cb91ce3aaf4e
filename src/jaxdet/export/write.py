"""Exporting a detector's inference step with `jax.export`, as a program that does not need the model's code."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, export

from jaxdet.config import to_dict
from jaxdet.data.batching.canvas import ALIGNMENT, Size
from jaxdet.export import reader
from jaxdet.extras import require
from jaxdet.inference import infer_step
from jaxdet.models import Detector, abstract
from jaxdet.models.classes import check_classes
from jaxdet.paths import is_remote
from jaxdet.saving.disk import put_in_place, reason
from jaxdet.saving.model import arrays, fill
from jaxdet.types import Images

PLATFORMS = ("cpu", "cuda", "tpu")


def export_detector(
    model: Detector,
    path: str | os.PathLike[str],
    *,
    canvas: Size,
    batch: int = 1,
    platforms: Sequence[str] = PLATFORMS,
) -> dict[str, int]:
    """Writes a detector to a folder that `jaxdet.export.load_export` opens. An existing export is replaced.

    Args:
        canvas: (height, width), multiples of 32; batch: number of images. The program takes only these.
        platforms: the program is lowered for these; this machine does not need their devices.

    Returns:
        The size of each file in bytes.

    Raises:
        ValueError: a number or platform is out of range, or ``path`` exists and is not an export.
        OSError: it cannot be written; an existing export is kept.
    """
    check_export(path, canvas, batch, platforms)
    check_classes(model)
    target = Path(path).absolute()
    values = {name: np.asarray(array) for name, array in arrays(model).items()}
    exported = _export(model, list(values), canvas, batch, platforms)
    program = exported.serialize()
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        (staging / reader.PROGRAM).write_bytes(program)
        np.savez(staging / reader.WEIGHTS, **values)  # type: ignore[arg-type]
        description = _describe(model, exported, canvas, batch, list(values))
        (staging / reader.DESCRIPTION).write_text(json.dumps(description, indent=1))
        shutil.copyfile(reader.__file__, staging / "reader.py")
        staging.chmod(0o755)
        sizes = {file.name: file.stat().st_size for file in sorted(staging.iterdir())}
        put_in_place(staging, target)
    except BaseException as error:
        shutil.rmtree(staging, ignore_errors=True)
        if isinstance(error, OSError):
            raise OSError(f"{path}: the export could not be written ({reason(error)}); nothing was changed") from error
        raise
    return sizes


def in_dtype(model: Detector, dtype: str) -> Detector:
    """A detector with the same parameters that computes in another dtype. Its backbone must be one of jaxdet's."""
    changed = abstract(model.config, numerics=replace(model.numerics, dtype=dtype))
    return fill(changed, arrays(model))


def _export(model: Detector, names: list[str], canvas: Size, batch: int, platforms: Sequence[str]) -> export.Exported:
    graphdef, state = nnx.split(model)
    empty = nnx.eval_shape(lambda: nnx.merge(graphdef, state))

    def infer(weights: list[Array], pixels: Array, sizes: Array) -> list[Array]:
        graphdef, state = nnx.split(fill(empty, dict(zip(names, weights, strict=True))))
        found = infer_step(graphdef, state, Images(pixels, sizes))
        return [found.boxes, found.scores, found.labels, found.valid]

    shapes = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays(model).values()]
    pixels = jax.ShapeDtypeStruct((batch, *canvas, 3), jnp.float32)
    sizes = jax.ShapeDtypeStruct((batch, 2), jnp.int32)
    return export.export(jax.jit(infer), platforms=tuple(platforms))(shapes, pixels, sizes)


def _describe(model: Detector, exported: export.Exported, canvas: Size, batch: int, names: list[str]) -> dict[str, Any]:
    """The content of ``export.json``: settings of the model, and the program's arguments and results in order."""
    config = model.config

    def list_arrays(names: Sequence[str], shapes: Sequence[Any]) -> list[dict[str, Any]]:
        return [
            {"name": name, "shape": list(shape.shape), "dtype": str(shape.dtype)}
            for name, shape in zip(names, shapes, strict=True)
        ]

    return {
        "format": reader.FORMAT,
        "jax": jax.__version__,
        "platforms": list(exported.platforms),
        "batch": batch,
        "canvas": list(canvas),
        "transform": to_dict(config.transform),
        "num_classes": config.num_classes,
        "names": list(config.names),
        "numerics": to_dict(model.numerics),
        "weights": list_arrays(names, exported.in_avals[:-2]),
        "inputs": list_arrays(("pixels", "sizes"), exported.in_avals[-2:]),
        "outputs": list_arrays(reader.OUTPUTS, exported.out_avals),
    }


def check_export(path: str | os.PathLike[str], canvas: Size | None, batch: int, platforms: Sequence[str]) -> None:
    """Checks the arguments of `export_detector` that do not depend on the model. ``canvas`` is not checked if None.

    Raises:
        ValueError: see `export_detector`.
    """
    require("flatbuffers", "export", "exporting")
    if is_remote(path):
        raise ValueError(f"{os.fspath(path)}: cannot export to a bucket; give a folder on a disk, and copy it")
    target = Path(path).absolute()
    is_export = (target / reader.DESCRIPTION).is_file()
    if target.exists() and not is_export and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{path} exists and is not an export: remove it, or give another path")
    if batch < 1:
        raise ValueError(f"the batch must have at least 1 image, not {batch}")
    if canvas is not None and (min(canvas) < 1 or any(side % ALIGNMENT for side in canvas)):
        raise ValueError(f"the canvas is {canvas[0]}x{canvas[1]}; both sides must be multiples of {ALIGNMENT}")
    unknown = [platform for platform in platforms if platform not in PLATFORMS]
    if unknown or not platforms:
        raise ValueError(f"expected platforms among {', '.join(PLATFORMS)}, got {', '.join(unknown) or 'none'}")

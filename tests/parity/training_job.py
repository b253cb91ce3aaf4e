"""A short training run that PyTorch and jaxdet both do, and what either says of it.

float64 is a setting of a whole process in JAX, so that jaxdet's side runs in one of its own; jobs and outcomes travel
as files.

An outcome is a flat dict of arrays: ``losses/NAME [steps]``, one a term; ``gradients/NAME`` of the first step;
``first/NAME``, the norms' statistics after it; ``last/NAME``, all parameters and statistics after the last step. Names
are PyTorch's.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from small import SmallConfig

from float64 import float64_environment
from jaxdet.config import from_dict, to_dict
from jaxdet.models.registry import CONFIG_TYPES
from jaxdet.training import OptimizerConfig

Arrays = dict[str, np.ndarray]
HERE = Path(__file__).resolve().parent
TYPES = CONFIG_TYPES | {cls.__name__: cls for cls in (OptimizerConfig, SmallConfig)}


@dataclass(frozen=True, eq=False)
class Job:
    """What to train, from which weights, on what, and how.

    weights: PyTorch's state dict.
    batches: taken in turn. Of a detector: images ``[B, H, W, 3]`` uint8 with their true sizes ``[B, 2]``, boxes
        ``[B, G, 4]``, labels ``[B, G]`` and valid ``[B, G]``; of a classifier: images and labels ``[B]``.
    """

    config: Any
    weights: Mapping[str, np.ndarray]
    batches: Sequence[Arrays]
    optimizer: OptimizerConfig
    steps: int
    dtype: str = "float64"
    label_smoothing: float = 0.0

    def save(self, path: Path) -> None:
        text = json.dumps(
            {
                "config": to_dict(self.config), "optimizer": to_dict(self.optimizer), "steps": self.steps,
                "dtype": self.dtype, "label_smoothing": self.label_smoothing, "batches": len(self.batches),
            }
        )  # fmt: skip
        arrays = {f"weights/{name}": array for name, array in self.weights.items()}
        for number, batch in enumerate(self.batches):
            arrays |= {f"batch{number}/{name}": array for name, array in batch.items()}
        np.savez(path, job=np.array(text), **arrays)

    @classmethod
    def load(cls, path: Path) -> Job:
        arrays = read(path)
        text = json.loads(str(arrays["job"]))
        batches = [under(arrays, f"batch{number}/") for number in range(text.pop("batches"))]
        config, optimizer = (from_dict(text.pop(key), TYPES) for key in ("config", "optimizer"))
        return cls(config, under(arrays, "weights/"), batches, optimizer, **text)


def state_of(module: Any) -> Arrays:
    """A copy of the state dict of a PyTorch module; numpy's arrays share memory with its tensors."""
    return {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}


def under(arrays: Mapping[str, np.ndarray], prefix: str) -> Arrays:
    """The arrays whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def read(path: Path) -> Arrays:
    with np.load(path) as file:
        return dict(file)


def run_in_float64(jobs: Sequence[Job]) -> list[Arrays]:
    """jaxdet's outcomes, from one process that does all jobs."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{number}.npz") for number in range(len(jobs))]
        for job, path in zip(jobs, paths, strict=True):
            job.save(path)
        command = [sys.executable, "-W", "error", str(HERE / "jax_training.py"), *map(str, paths)]
        subprocess.run(command, env=float64_environment(HERE, run_once=False), check=True)
        return [read(path) for path in paths]  # each outcome stands where its job stood


def worst(ours: Arrays, theirs: Arrays, what: str) -> tuple[float, str]:
    """The largest difference, over the norm of theirs, among the arrays of one kind, and where it is."""
    ours, theirs = under(ours, f"{what}/"), under(theirs, f"{what}/")
    assert ours.keys() == theirs.keys() and theirs
    assert all(np.isfinite(array).all() for array in theirs.values())
    return max((relative(ours[name], theirs[name]), name) for name in theirs)


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Norm of the difference over the norm of theirs; what is zero there has to be zero here."""
    difference, size = np.linalg.norm(ours - theirs), np.linalg.norm(theirs)
    return float(difference / size) if size else (np.inf if difference else 0.0)


def worst_loss(ours: Arrays, theirs: Arrays, steps: slice = slice(None)) -> tuple[float, str]:
    """The largest relative difference of any loss of any step, and of which loss."""
    ours, theirs = under(ours, "losses/"), under(theirs, "losses/")
    assert ours.keys() == theirs.keys() and theirs
    assert all((values > 0).all() for values in theirs.values())
    return max((float(np.abs(ours[name] / theirs[name] - 1)[steps].max()), name) for name in theirs)


def check_float64(ours: Arrays, theirs: Arrays) -> None:
    """Asserts what two implementations of the same run share in float64."""
    found = {
        "losses of the first step": (*worst_loss(ours, theirs, slice(1)), 1e-9),
        "gradients of the first step": (*worst(ours, theirs, "gradients"), 1e-7),
        "statistics after the first step": (*worst(ours, theirs, "first"), 1e-9),
        "losses": (*worst_loss(ours, theirs), 1e-7),
        "parameters and statistics after the last step": (*worst(ours, theirs, "last"), 1e-7),
    }
    print(*(f"{what}: {error:.1e} ({name})" for what, (error, name, _) in found.items()), sep="\n")
    for what, (error, name, bound) in found.items():
        assert error <= bound, f"{what} differ by {error:.2g} at {name}"

"""Saving the state before a loss that is not finite, and restoring it for a replay."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp

from jaxdet.parallel import on_first
from jaxdet.paths import write_text
from jaxdet.saving.disk import remove
from jaxdet.saving.train_state import Checkpoints
from jaxdet.training import TrainState

FAILURE, _REPORT = "failure", "failure.json"


class NotFinite(FloatingPointError):
    """A loss or its gradient is not finite. The message has the step, the terms, the images and the saved state."""


def keep_failure(
    out: Path, state: TrainState, step: int, values: Mapping[str, float], images: Sequence[str]
) -> NotFinite:
    """Saves the state before ``step`` and a report to ``out/failure``, and returns the error to raise.

    Args:
        state: after the failed step, which the train step has not changed.
    """
    folder = out / FAILURE
    on_first(lambda: remove(folder))
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(replace(state, healthy=jnp.ones_like(state.healthy)), {}, wait=True)
    report = {"step": step, "values": {name: repr(value) for name, value in values.items()}, "pictures": list(images)}
    on_first(lambda: write_text(folder / _REPORT, json.dumps(report, indent=1)))
    terms = ", ".join(f"{name} {value:g}" for name, value in values.items())
    return NotFinite(
        f"the loss is not finite at step {step}: {terms}; images {', '.join(images)}. The state before this step is "
        f"saved in {folder}; the same command with --replay computes the step again. A lower learning rate, a longer "
        "warm-up or optimizer_clip_norm usually helps"
    )


def restore_failure(out: Path, like: TrainState) -> TrainState:
    """The state before the failed step.

    Raises:
        ValueError: the run in ``out`` had no loss that was not finite.
    """
    folder = out / FAILURE
    if not (folder / _REPORT).is_file():
        raise ValueError(f"{out}: nothing to replay; all losses of this run were finite")
    with Checkpoints(folder) as checkpoints:
        state, _ = checkpoints.restore(like)
    return state

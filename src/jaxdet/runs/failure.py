"""A loss that is not finite: what is kept of it, and its replay."""

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
    """A loss, or its gradient, is not finite: the step, the terms and the images, and where the state is."""


def keep_failure(
    out: Path, state: TrainState, step: int, values: Mapping[str, float], images: Sequence[str]
) -> NotFinite:
    """Writes the state before ``step`` and what happened to ``out/failure``; gives the error to raise.

    Args:
        state: in which the step failed: the train step has left it as it was before.
    """
    folder = out / FAILURE
    on_first(lambda: remove(folder))
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(replace(state, healthy=jnp.ones_like(state.healthy)), {}, wait=True)
    report = {"step": step, "values": {name: repr(value) for name, value in values.items()}, "pictures": list(images)}
    on_first(lambda: write_text(folder / _REPORT, json.dumps(report, indent=1)))
    terms = ", ".join(f"{name} {value:g}" for name, value in values.items())
    return NotFinite(
        f"the loss is not finite at step {step}: {terms}; images {', '.join(images)}. The state before it is in "
        f"{folder}, and the same command with --replay computes that step again. A lower learning rate, a longer "
        "warm-up or optimizer_clip_norm usually helps"
    )


def restore_failure(out: Path, like: TrainState) -> TrainState:
    """The state from which the failed step can be computed again.

    Raises:
        ValueError: no loss of the run in ``out`` was anything but finite.
    """
    folder = out / FAILURE
    if not (folder / _REPORT).is_file():
        raise ValueError(f"{out}: there is nothing to replay; no loss of a run there was not finite")
    with Checkpoints(folder) as checkpoints:
        state, _ = checkpoints.restore(like)
    return state

"""The training loop: batches in, a trained model, its metrics and its loss curve out."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, TextIO

import jax
from jax.sharding import Mesh
from tqdm.auto import tqdm

from jaxdet.data import BatchPlan, DetectionDataset, LoadedBatch, canvases, load_batches
from jaxdet.detectors import FasterRCNN
from jaxdet.runs.config import TrainConfig
from jaxdet.training import init_state, make_optimizer, make_schedule, make_train_step, to_model
from jaxdet.visualize import plot_losses

METRICS_FILE, CURVE_FILE = "metrics.jsonl", "losses.png"


def train(
    config: TrainConfig,
    model: FasterRCNN,
    dataset: DetectionDataset,
    out: str | Path,
    *,
    mesh: Mesh | None = None,
    progress: bool = True,
) -> FasterRCNN:
    """Train a model and return it; its arrays are donated to the run.

    Writes ``metrics.jsonl`` (a line every ``log_every`` steps) and ``losses.png`` into ``out``.

    Raises:
        FloatingPointError: a logged loss is not finite; says at which step, which terms, and which images.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    optimizer = make_optimizer(config.optimizer, config.steps)
    schedule = make_schedule(config.optimizer, config.steps)
    graphdef, state = init_state(model, optimizer, frozen=config.frozen)
    step = make_train_step(graphdef, optimizer, frozen=config.frozen, mesh=mesh)
    key = jax.random.key(config.seed)
    rows: list[dict[str, Any]] = []
    with (out / METRICS_FILE).open("w") as log:
        bar = tqdm(
            _batches(config, model, dataset), total=config.steps, desc="train", unit="step", disable=not progress
        )
        for batch in bar:
            state, values = step(state, batch.images, batch.targets, key)
            done = batch.step + 1
            if done % config.log_every == 0 or done in (1, config.steps):
                numbers = {name: float(value) for name, value in jax.device_get(values).items()}
                row = _log(log, batch, numbers | {"learning_rate": float(schedule(batch.step))})
                rows.append(row)
                bar.set_postfix(loss=f"{row['loss']:.3f}", lr=f"{row['learning_rate']:.2g}")
    plot_losses(rows, out / CURVE_FILE)
    return to_model(graphdef, state)


def _batches(config: TrainConfig, model: FasterRCNN, dataset: DetectionDataset) -> Any:
    transform = model.config.transform
    low, high = transform.min_size, transform.max_size
    choices = canvases(low, high, square=config.square)
    plan = BatchPlan(dataset.sizes, config.batch_size, choices, min_size=low, max_size=high, seed=config.seed)
    left_over = len(dataset) - plan.steps_per_epoch * config.batch_size
    if left_over:
        tqdm.write(f"{left_over} of {len(dataset)} pictures, others each epoch, fill no batch of their canvas")
    return load_batches(
        dataset,
        plan,
        0,
        config.steps,
        mean=transform.image_mean,
        std=transform.image_std,
        max_boxes=config.max_boxes,
        flip=config.flip,
    )


def _log(log: TextIO, batch: LoadedBatch, values: dict[str, float]) -> dict[str, Any]:
    if not math.isfinite(values["loss"]):
        terms = ", ".join(f"{name} {value:g}" for name, value in values.items())
        raise FloatingPointError(
            f"the loss is not finite at step {batch.step}: {terms}; images {batch.indices.tolist()}. "
            "A lower learning rate, a longer warm-up or clip_norm usually helps"
        )
    row = {"step": batch.step + 1, **values}
    log.write(json.dumps(row) + "\n")
    log.flush()
    return row

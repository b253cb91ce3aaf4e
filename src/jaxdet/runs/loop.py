"""The training loop: batches in, checkpoints, metrics and a trained model out.

A run is a pure function of its configuration and data. Its position is its step, so a run that was stopped, or killed,
goes on from its last checkpoint to the same parameters, bit for bit, that it would have reached undisturbed.
"""

from __future__ import annotations

import math
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from jaxdet.data import LoadedBatch
from jaxdet.parallel import data_mesh, replicated
from jaxdet.runs.checkpoint import save
from jaxdet.runs.failure import keep_failure, restore_failure
from jaxdet.runs.journal import Journal
from jaxdet.runs.record import check_record, make_record
from jaxdet.runs.signals import Stopped, StopRequest
from jaxdet.runs.states import Checkpoints
from jaxdet.runs.task import Task
from jaxdet.training import TrainState, init_state, make_optimizer, make_schedule, make_train_step, to_model
from jaxdet.training.step import TrainStep

CHECKPOINTS, BEST = "checkpoints", "best"
_AHEAD = 2  # steps that are dispatched before the first of them is done


class Run:
    """A training run in a folder; made anew or found there.

    The folder holds ``checkpoints/`` (whole states), ``best/`` (the model of the best evaluation), ``metrics.jsonl``,
    ``losses.png`` and ``tensorboard/``.

    Args:
        task: what is trained, on what.
        model: what a new run begins with; an existing one takes its structure from it. Its arrays are used up.
        out: the folder.
        mesh: of `jaxdet.parallel.data_mesh`; by default all devices.

    Raises:
        ValueError: the folder holds a run of another configuration or other data, or the batch does not divide over
            the devices.
        CheckpointError: a checkpoint cannot be read or written.
    """

    def __init__(
        self, task: Task, model: nnx.Module, out: str | Path, *, mesh: Mesh | None = None, progress: bool = True
    ) -> None:
        self.task, self.out, self.progress = task, Path(out), progress
        self.mesh = data_mesh() if mesh is None else mesh
        config, length = task.config, task.length
        _check_division(config.batch_size, self.mesh.size)
        self.out.mkdir(parents=True, exist_ok=True)
        check_record(self.out, make_record(task))
        optimizer = make_optimizer(length.optimizer, length.steps)
        self._schedule = make_schedule(length.optimizer, length.steps)
        self.graphdef, state = init_state(model, optimizer, frozen=config.frozen, ema=config.ema_decay is not None)
        self.state: TrainState = jax.device_put(state, replicated(self.mesh))
        self._step: TrainStep = make_train_step(
            self.graphdef,
            optimizer,
            objective=task.objective,
            frozen=config.frozen,
            mesh=self.mesh,
            ema_decay=config.ema_decay,
            accumulate=length.optimizer.accumulate,
        )
        self._checkpoints = Checkpoints(self.out / CHECKPOINTS, keep=config.keep, keep_every=config.keep_every)
        self.best: dict[str, Any] = {}  # the step and value of the best evaluation
        if self._checkpoints.latest() is not None:
            self.state, record = self._checkpoints.restore(self.state)
            self.best = record["best"]

    @property
    def position(self) -> int:
        """How many steps are done."""
        return int(self.state.step)

    def model(self) -> Any:
        """The model as it stands: of the moving averages where the run keeps them. It shares the run's arrays."""
        return to_model(self.graphdef, self.state, ema=self.task.config.ema_decay is not None)

    def train(self) -> dict[str, float]:
        """Goes on to the last step; the metrics of the evaluation there (empty without a validation set).

        Raises:
            Stopped: on SIGTERM or Ctrl-C, after the state is saved.
            NotFinite: a loss is not finite; the state before that step is kept.
        """
        config, steps = self.task.config, self.task.length.steps
        start = self.position
        with ExitStack() as stack:
            stop = stack.enter_context(StopRequest())
            stack.enter_context(self._checkpoints)
            journal = Journal(self.out, start, steps, config.batch_size, progress=self.progress)
            stack.callback(journal.close)
            metrics = self._known(journal, start)
            batches = self.task.batches(start)
            stack.callback(batches.close)
            self._go(batches, journal, stop)
            if metrics is None or self.position > start:
                metrics = self._evaluate(journal)
            self._save(wait=True)
        return metrics

    def replay(self) -> dict[str, float]:
        """Computes the step again whose loss was not finite; its terms.

        Raises:
            ValueError: there was no such step.
        """
        state = restore_failure(self.out, self.state)
        batches = self.task.batches(int(state.step))
        batch = next(batches)
        batches.close()
        _, values = self._step(state, batch.images, batch.targets, self._key())
        return {name: float(value) for name, value in jax.device_get(values).items()}

    def _key(self) -> jax.Array:
        return jax.device_put(jax.random.key(self.task.config.seed), replicated(self.mesh))

    def _go(self, batches: Any, journal: Journal, stop: StopRequest) -> None:
        config, length = self.task.config, self.task.length
        key = self._key()
        waiting: deque[tuple[LoadedBatch, dict[str, jax.Array]]] = deque()
        position = self.position
        while position < length.steps:
            try:
                batch: LoadedBatch = next(batches)
            except Exception:
                self._look(waiting, journal)
                self._save(wait=True)  # what is done is done, whatever ails the data
                if stop.received is not None:  # which a cluster sends to worker processes, too
                    raise Stopped(stop.received, position) from None
                raise
            self.state, values = self._step(self.state, batch.images, batch.targets, key)
            position = batch.step + 1
            waiting.append((LoadedBatch(batch.step, None, None, batch.indices), values))  # type: ignore[arg-type]
            if len(waiting) > _AHEAD:
                jax.block_until_ready(waiting[-1 - _AHEAD][1])
            journal.advance()
            last = position == length.steps
            due = position % config.checkpoint_every == 0 or stop.received is not None
            evaluate = not last and length.eval_every is not None and position % length.eval_every == 0
            if due or last or evaluate or position % config.log_every == 0:
                self._look(waiting, journal)
            if evaluate:
                self._evaluate(journal)
            if due:
                self._save(wait=stop.received is not None)
            if stop.received is not None and not last:
                raise Stopped(stop.received, position)

    def _look(self, waiting: deque[tuple[LoadedBatch, dict[str, jax.Array]]], journal: Journal) -> None:
        """Fetches and writes down the losses of all steps since the last look."""
        rows = jax.device_get([values for _, values in waiting])
        for (batch, _), row in zip(waiting, rows, strict=True):
            numbers = {name: float(value) for name, value in row.items()}
            if not all(math.isfinite(number) for number in numbers.values()):
                waiting.clear()
                journal.show()
                raise keep_failure(self.out, self.state, batch.step, numbers, self.task.describe(batch.indices))
            journal.train(batch.step + 1, {**numbers, "learning_rate": float(self._schedule(batch.step))})
        waiting.clear()
        journal.show()

    def _evaluate(self, journal: Journal) -> dict[str, float]:
        if self.task.val is None:
            return {}
        metrics = self.task.evaluate(self.model(), mesh=self.mesh, progress=self.progress)
        self.task.plot(self.out)
        step = self.position
        journal.evaluation(step, metrics, self.task.shown)
        value = metrics[self.task.metric]
        if not self.best or value > self.best["value"]:
            self.best = {"step": step, "value": value}
            save(self.model(), self.out / BEST)
        return metrics

    def _known(self, journal: Journal, step: int) -> dict[str, float] | None:
        """The metrics of an evaluation after ``step`` that the journal has already."""
        for row in journal.rows:
            if row["step"] == step and any(name.startswith("val/") for name in row):
                return {name.removeprefix("val/"): value for name, value in row.items() if name != "step"}
        return None

    def _save(self, *, wait: bool = False) -> None:
        self._checkpoints.save(self.state, {"best": self.best}, wait=wait)


def _check_division(batch_size: int, devices: int) -> None:
    if batch_size % devices:
        below, above = batch_size // devices * devices, -(-batch_size // devices) * devices
        near = " or ".join(str(size) for size in (below, above) if size)
        raise ValueError(f"batch_size={batch_size} does not divide over {devices} devices; take {near}")

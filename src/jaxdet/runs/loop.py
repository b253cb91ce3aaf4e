"""The training loop.

A run is a function of its configuration and data. A run that was stopped or killed resumes from its last checkpoint and
reaches the same parameters, bit for bit, as an uninterrupted one.

Several processes run the same loop, each with its rows of every batch. Control flow depends only on the step and on
values that all processes share; the first process writes the files.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from jaxdet.base import Losses
from jaxdet.compiling import Compilations, say_beside_bars
from jaxdet.data import LoadedBatch
from jaxdet.data.batching.workers import leave_unguarded_script
from jaxdet.models.options import changes
from jaxdet.parallel import check_division, copy_to, data_mesh, gather, is_first, many, on_first, replicated, split
from jaxdet.paths import to_path
from jaxdet.runs.failure import keep_failure, restore_failure
from jaxdet.runs.journal import Journal, open_journal
from jaxdet.runs.record import check_record, keep_record, make_record
from jaxdet.runs.signals import Stopped, StopRequest
from jaxdet.runs.start import first_state, model_for
from jaxdet.runs.take_over import Taken, take_over
from jaxdet.runs.task import Task
from jaxdet.saving.description import Description
from jaxdet.saving.model import save
from jaxdet.saving.open import BEST, CHECKPOINTS, DESCRIPTION
from jaxdet.saving.stored_state import saved_steps
from jaxdet.saving.train_state import Checkpoints
from jaxdet.training import TrainState, make_schedule, to_model

_AHEAD = 2  # steps that are dispatched before the first of them has finished


class Run:
    """A training run in a folder, new or resumed.

    The folder contains ``checkpoints/`` (train states), ``best/`` (the model of the best evaluation),
    ``metrics.jsonl``, ``losses.png`` and ``tensorboard/``. Several processes share it.

    Args:
        task: configuration and data.
        model: the initial model of a new run. A resumed run only uses its structure. Its arrays are donated.
        out: the folder.
        source: for a new run, the folder of another run, or of one of its checkpoints, to take the initial state from
            (`jaxdet.runs.take_over`). Its configuration may differ, and its folder is not changed.
        mesh: from `jaxdet.parallel.data_mesh`; by default over all devices of all processes.
        progress: show progress bars.

    Raises:
        ValueError: the folder has a run with another configuration or other data; a batch does not divide over the
            devices; configuration, data or parameters differ between processes; or the state of ``source`` does not
            fit.
        CheckpointError: a checkpoint cannot be read or written.
    """

    def __init__(
        self,
        task: Task,
        model: Any,
        out: str | Path,
        *,
        source: str | Path | None = None,
        mesh: Mesh | None = None,
        progress: bool = True,
    ) -> None:
        self.task, self.out, self.progress = task, to_path(out), progress
        self.mesh = data_mesh() if mesh is None else mesh
        config, length = task.config, task.length
        if config.workers:
            leave_unguarded_script()
        check_division("batch_size", config.batch_size, self.mesh)
        if task.val is not None:
            check_division("eval_batch_size", config.eval_batch_size, self.mesh)
        _check_model(task, model)
        record = make_record(task)
        _check_agreement(record, model)
        origin = on_first(lambda: check_record(self.out, record))
        begun = on_first(lambda: bool(saved_steps(self.out / CHECKPOINTS)))
        origin = origin if begun else None  # a run that was killed before its first checkpoint starts again
        if source is not None:
            _check_source(str(source), self.out, origin, begun)
        self._description = Description.of(model).values()
        self._schedule = make_schedule(length.optimizer, length.steps)
        (self.graphdef, self._step), state = first_state(
            model, config, length.optimizer, length.steps, task.objective, self.mesh
        )
        self.state: TrainState = copy_to(state, self.mesh)
        self.taken: Taken | None = None  # the state that this process took over from another run
        if source is not None and not begun:
            self.taken = take_over(source, self.state, record, length)
            origin = {
                "run": str(source),
                "step": self.taken.step,
                "differences": self.taken.differences,
                "notes": self.taken.notes,
            }
        on_first(lambda: keep_record(self.out, record if origin is None else record | {"from": origin}))
        self._checkpoints = Checkpoints(self.out / CHECKPOINTS, keep=config.keep, keep_every=config.keep_every)
        self._compilations = Compilations()
        self.best: dict[str, Any] = {}  # the step and value of the best evaluation
        if self._checkpoints.latest() is not None:
            self.state, record = self._checkpoints.restore(self.state)
            self.best = record["best"]
        elif self.taken is not None:
            self.state = self.taken.state
            self._save(wait=True)  # from now on, the other run is not needed

    @property
    def position(self) -> int:
        """The number of completed steps."""
        return int(self.state.step)

    def model(self) -> Any:
        """The current model, with the moving averages if the run has them. It shares the run's arrays."""
        return to_model(self.graphdef, self.state, ema=self.task.config.ema_decay is not None)

    def train(self) -> dict[str, float]:
        """Trains to the last step and returns the metrics of the final evaluation (empty without a validation set).

        Raises:
            Stopped: SIGTERM or Ctrl-C was received; the state is saved.
            NotFinite: a loss is not finite; the state before that step is saved.
        """
        config, steps = self.task.config, self.task.length.steps
        start = self.position
        with ExitStack() as stack:
            stop = stack.enter_context(StopRequest())
            stack.enter_context(self._checkpoints)
            journal = open_journal(self.out, start, steps, config.batch_size, progress=self.progress)
            stack.callback(journal.close)
            metrics = on_first(lambda: journal.known(start))
            batches = self.task.batches(start, mesh=self.mesh)
            stack.callback(batches.close)
            self._run_steps(batches, journal, stop)
            if metrics is None or self.position > start:
                metrics = self._evaluate(journal)
            self._save(wait=True)
        return metrics

    def replay(self) -> dict[str, float]:
        """Repeats the step with a loss that was not finite, and returns its loss terms.

        Raises:
            ValueError: there was no such step.
        """
        state = restore_failure(self.out, self.state)
        batches = self.task.batches(int(state.step), mesh=self.mesh)
        batch = next(batches)
        batches.close()
        _, values = self._advance(state, batch, self._key())
        return {name: float(value) for name, value in jax.device_get(values).items()}

    def _key(self) -> jax.Array:
        seed = self.task.config.seed
        return jax.jit(lambda: jax.random.key(seed), out_shardings=replicated(self.mesh))()

    def _advance(
        self, state: TrainState, batch: LoadedBatch, key: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        size = self.task.config.batch_size
        say = say_beside_bars if self.progress and is_first() else None
        self._compilations.announce(None, batch.images.pixels.shape[1:3], say)
        return self._step(state, split(batch.images, size, self.mesh), split(batch.targets, size, self.mesh), key)

    def _run_steps(self, batches: Any, journal: Journal, stop: StopRequest) -> None:
        config, length = self.task.config, self.task.length
        key = self._key()
        pending: deque[tuple[int, Losses]] = deque()  # losses that were not fetched yet
        position = self.position
        while position < length.steps:
            try:
                batch: LoadedBatch = next(batches)
            except Exception:
                if many():  # saving a checkpoint needs all processes, but the others continue
                    raise
                self._log_losses(pending, journal)
                self._save(wait=True)
                if stop.received is not None:  # the cluster signalled the worker processes, too
                    raise Stopped(stop.received, position) from None
                raise
            self.state, values = self._advance(self.state, batch, key)
            position = batch.step + 1
            pending.append((batch.step, values))
            if len(pending) > _AHEAD:
                jax.block_until_ready(pending[-1 - _AHEAD][1])
            journal.advance()
            last = position == length.steps
            signal = stop.at(position)
            save = position % config.checkpoint_every == 0 or signal is not None
            evaluate = not last and length.eval_every is not None and position % length.eval_every == 0
            if save or last or evaluate or position % config.log_every == 0:
                self._log_losses(pending, journal)
            if evaluate:
                self._evaluate(journal)
            if save:
                self._save(wait=signal is not None)
            if signal is not None and not last:
                raise Stopped(signal, position)

    def _log_losses(self, pending: deque[tuple[int, Losses]], journal: Journal) -> None:
        """Fetches and logs the pending losses."""
        rows = jax.device_get([values for _, values in pending])
        for (step, _), row in zip(pending, rows, strict=True):
            numbers = {name: float(value) for name, value in row.items()}
            if not all(math.isfinite(number) for number in numbers.values()):
                pending.clear()
                journal.show()
                images = self.task.describe(self.task.plan.batch(step).indices)
                raise keep_failure(self.out, self.state, step, numbers, images)
            journal.train(step + 1, {**numbers, "learning_rate": float(self._schedule(step))})
        pending.clear()
        journal.show()

    def _evaluate(self, journal: Journal) -> dict[str, float]:
        if self.task.val is None:
            return {}
        metrics = self.task.evaluate(self.model(), mesh=self.mesh, progress=self.progress and is_first())
        step = self.position
        journal.evaluation(step, metrics, self.task.shown)
        value = metrics[self.task.metric]
        if not self.best or value > self.best["value"]:
            self.best = {"step": step, "value": value}
            on_first(lambda: save(self.model(), self.out / BEST, overwrite=True))
        on_first(lambda: self.task.plot(self.out))
        return metrics

    def _save(self, *, wait: bool = False) -> None:
        self._checkpoints.save(self.state, {"best": self.best, DESCRIPTION: self._description}, wait=wait)


def _check_source(source: str, out: Path, origin: dict[str, Any] | None, begun: bool) -> None:
    """Raises ValueError if the run in ``out`` was not started from ``source``."""
    if to_path(source).resolve() == out.resolve():
        raise ValueError(f"--from {source}: this is the folder of --out; give another folder with --out")
    if begun and (origin is None or origin["run"] != source):
        was = "was not started from another" if origin is None else f"was started from {origin['run']}"
        raise ValueError(f"{out} already has a run, which {was}: leave out --from to resume it, or give another --out")


def _check_model(task: Task, model: Any) -> None:
    """Raises ValueError if the model's configuration differs from the task's, which is the one that is recorded."""
    wanted = model_for(task.config, task.names)
    if task.config.freeze_norms:
        wanted = wanted.with_frozen_norms()
    if type(model.config) is not type(wanted) or model.config != wanted:
        differing = changes(wanted, model.config) if type(model.config) is type(wanted) else ["its kind"]
        raise ValueError(
            f"the model's configuration differs from the task's: {'; '.join(differing)}. Open the task with the "
            "configuration that is adapted to the weights (jaxdet.runs.follow.follow_weights)"
        )


def _check_agreement(record: dict[str, Any], model: nnx.Module) -> None:
    """Raises ValueError if configuration, data or model differ between processes."""
    if not many():
        return
    parameters = hashlib.sha256()
    for leaf in jax.tree.leaves(nnx.state(model)):
        parameters.update(np.asarray(leaf).tobytes())
    records = gather({"parameters": parameters.hexdigest(), **record})
    for index, other in enumerate(records):
        differing = [name for name, value in records[0].items() if other[name] != value]
        if differing:
            raise ValueError(
                f"process {index} differs from process 0 in its {' and '.join(differing)}: run the same command, with "
                "the same files, on every host"
            )

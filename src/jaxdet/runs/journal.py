"""The logs of a run: metrics file, TensorBoard, progress bar and loss curve."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tqdm.auto import tqdm

from jaxdet.parallel import is_first
from jaxdet.saving.growing import Board, Lines
from jaxdet.saving.run_folder import METRICS_FILE, Row, read_rows

CURVE_FILE, TENSORBOARD = "losses.png", "tensorboard"


class Journal:
    """The logs of a run of ``steps`` steps that starts or resumes after ``start``; entries of later steps are removed.

    A row of the metrics file contains ``step`` (from 1) and either ``loss``, its terms, ``gradient_norm`` and
    ``learning_rate``, or the metrics of an evaluation, such as ``val/AP``.
    """

    def __init__(self, out: Path, start: int, steps: int, batch_size: int, *, progress: bool = True) -> None:
        self._out, self._batch_size = out, batch_size
        self.rows = [row for row in read_rows(out / METRICS_FILE) if row["step"] <= start]
        self._file = Lines(out / METRICS_FILE, map(json.dumps, self.rows))
        self._board = Board(out / TENSORBOARD, start)
        self._bar = tqdm(total=steps, initial=start, desc="train", unit="step", disable=not progress)

    def known(self, step: int) -> dict[str, float] | None:
        """The logged metrics of the evaluation after ``step``; None without one."""
        for row in self.rows:
            if row["step"] == step and any(name.startswith("val/") for name in row):
                return {name.removeprefix("val/"): value for name, value in row.items() if name != "step"}
        return None

    def advance(self) -> None:
        """Advances the progress bar by a step."""
        self._bar.update()

    def train(self, step: int, values: Mapping[str, float]) -> None:
        """Logs the losses of a step."""
        self._add({"step": step, **values}, "train/")

    def show(self) -> None:
        """Shows the last losses and the speed in the progress bar, and flushes the files."""
        last = next((row for row in reversed(self.rows) if "loss" in row), None)
        if last is not None:
            rate = (self._bar.format_dict["rate"] or 0) * self._batch_size
            self._bar.set_postfix_str(
                f"loss {last['loss']:.3f}, learning rate {last['learning_rate']:.2g}, {rate:.1f} images/s"
            )
        self._file.flush()
        self._board.flush()

    def evaluation(self, step: int, metrics: Mapping[str, float], shown: tuple[str, ...]) -> None:
        """Logs the metrics of an evaluation after ``step`` and prints those in ``shown``."""
        self._add({"step": step, **{f"val/{name}": value for name, value in metrics.items()}}, "")
        text = "  ".join(f"{name} {metrics[name]:.3f}" for name in shown if name in metrics)
        self._bar.write(f"step {step}: {text}")
        self._file.flush()
        self._board.flush()

    def say(self, text: str) -> None:
        """Prints a line above the progress bar."""
        self._bar.write(text)

    def close(self) -> None:
        """Closes the files and draws the loss curve."""
        self._bar.close()
        self._file.close()
        self._board.close()
        if any("loss" in row for row in self.rows):
            from jaxdet.plots import plot_losses  # matplotlib is slow to import

            plot_losses([row for row in self.rows if "loss" in row], self._out / CURVE_FILE)

    def _add(self, row: Row, prefix: str) -> None:
        self.rows.append(row)
        self._file.add(json.dumps(row))
        for name, value in row.items():
            if name != "step" and not (name.startswith("val/") and value == -1):  # -1: undefined
                self._board.add(prefix + name, value, row["step"])


class NoJournal(Journal):
    """The journal of all processes except the first: it logs nothing."""

    def __init__(self) -> None:
        self.rows = []

    def advance(self) -> None:
        pass

    def train(self, step: int, values: Mapping[str, float]) -> None:
        pass

    def show(self) -> None:
        pass

    def evaluation(self, step: int, metrics: Mapping[str, float], shown: tuple[str, ...]) -> None:
        pass

    def say(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass


def open_journal(out: Path, start: int, steps: int, batch_size: int, *, progress: bool = True) -> Journal:
    """The `Journal` of this process; a `NoJournal` in all processes except the first."""
    return Journal(out, start, steps, batch_size, progress=progress) if is_first() else NoJournal()

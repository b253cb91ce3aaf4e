"""What a run tells while it goes: a metrics file with a line a step, TensorBoard, the progress bar, the loss curve."""

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
    """Of a run of ``steps`` steps that goes on after ``start``: what the files say of later steps is taken back.

    A row of the metrics file holds ``step`` (from 1) and either ``loss``, its terms, ``gradient_norm`` and
    ``learning_rate``, or, after an evaluation, ``val/AP`` and others.
    """

    def __init__(self, out: Path, start: int, steps: int, batch_size: int, *, progress: bool = True) -> None:
        self._out, self._batch_size = out, batch_size
        self.rows = [row for row in read_rows(out / METRICS_FILE) if row["step"] <= start]
        self._file = Lines(out / METRICS_FILE, map(json.dumps, self.rows))
        self._board = Board(out / TENSORBOARD, start)
        self._bar = tqdm(total=steps, initial=start, desc="train", unit="step", disable=not progress)

    def known(self, step: int) -> dict[str, float] | None:
        """The metrics of an evaluation after ``step`` that is here already."""
        for row in self.rows:
            if row["step"] == step and any(name.startswith("val/") for name in row):
                return {name.removeprefix("val/"): value for name, value in row.items() if name != "step"}
        return None

    def advance(self) -> None:
        """One more step is done."""
        self._bar.update()

    def train(self, step: int, values: Mapping[str, float]) -> None:
        """The losses of a step."""
        self._add({"step": step, **values}, "train/")

    def show(self) -> None:
        """The last losses and the rate at the progress bar; everything so far to disk."""
        last = next((row for row in reversed(self.rows) if "loss" in row), None)
        if last is not None:
            rate = (self._bar.format_dict["rate"] or 0) * self._batch_size
            self._bar.set_postfix_str(
                f"loss {last['loss']:.3f}, learning rate {last['learning_rate']:.2g}, {rate:.1f} images/s"
            )
        self._file.flush()
        self._board.flush()

    def evaluation(self, step: int, metrics: Mapping[str, float], shown: tuple[str, ...]) -> None:
        """The metrics of an evaluation after ``step``; ``shown`` of them are printed."""
        self._add({"step": step, **{f"val/{name}": value for name, value in metrics.items()}}, "")
        text = "  ".join(f"{name} {metrics[name]:.3f}" for name in shown if name in metrics)
        self._bar.write(f"step {step}: {text}")
        self._file.flush()
        self._board.flush()

    def say(self, text: str) -> None:
        """A line above the progress bar."""
        self._bar.write(text)

    def close(self) -> None:
        """Ends the files and draws the loss curve."""
        self._bar.close()
        self._file.close()
        self._board.close()
        if any("loss" in row for row in self.rows):
            from jaxdet.plots import plot_losses  # matplotlib, which a start need not wait for

            plot_losses([row for row in self.rows if "loss" in row], self._out / CURVE_FILE)

    def _add(self, row: Row, prefix: str) -> None:
        self.rows.append(row)
        self._file.add(json.dumps(row))
        for name, value in row.items():
            if name != "step" and not (name.startswith("val/") and value == -1):  # -1: there was nothing to count
                self._board.add(prefix + name, value, row["step"])


class NoJournal(Journal):
    """Of the processes beside the first one: it keeps nothing and says nothing."""

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
    """This process's `Journal`: a silent one in all but the first."""
    return Journal(out, start, steps, batch_size, progress=progress) if is_first() else NoJournal()

"""Checkpoints of a training run, from which it resumes bit for bit.

A state is stored as a flat mapping from paths to arrays, with a small JSON record. Orbax writes in the background into
a temporary folder and renames it, so that checkpoints are always complete. All processes of a run write its arrays and
take part in every call; any number of processes with any number of devices can read them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import orbax.checkpoint as ocp

from jaxdet.parallel import on_first
from jaxdet.paths import absolute, is_remote
from jaxdet.saving.disk import reason
from jaxdet.saving.stored_state import RECORD_ITEM, STATE, CheckpointError
from jaxdet.training import TrainState


class Checkpoints:
    """The checkpoints in a folder, one subfolder per step.

    Args:
        folder: created if necessary; the same for all processes. May be a URL.
        keep: the number of last checkpoints to keep.
        keep_every: also keep those at multiples of this step.

    Raises:
        CheckpointError: the folder cannot be created or written to.
    """

    def __init__(self, folder: str | Path, *, keep: int = 2, keep_every: int | None = None) -> None:
        self.folder = absolute(folder)
        self._writing: int | None = None  # the step of the last write that was started
        try:
            on_first(self._check_writable)
            options = ocp.CheckpointManagerOptions(
                max_to_keep=keep, keep_period=keep_every, enable_async_checkpointing=True, cleanup_tmp_directories=True
            )
            handlers = {STATE: ocp.StandardCheckpointHandler(), RECORD_ITEM: ocp.JsonCheckpointHandler()}
            self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)
        except Exception as error:  # Orbax raises many types
            raise CheckpointError(f"{self.folder}: checkpoints cannot be saved there ({reason(error)})") from error

    def _check_writable(self) -> None:
        """Finds a read-only folder before hours of training."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f".{os.getpid()}.try"
        file.write_text("")
        file.unlink()

    def latest(self) -> int | None:
        """The step of the last checkpoint, or None. All processes get the result of the first one."""
        return on_first(self._manager.latest_step)

    def save(self, state: TrainState, record: dict[str, Any], *, wait: bool = False) -> None:
        """Starts writing a checkpoint. The state may be donated after this returns.

        Raises:
            CheckpointError: this checkpoint, or an earlier one that was still being written, could not be written.
        """
        step = int(state.step)
        if step == self.latest():
            return
        arrays = flat(state)
        needed = sum(leaf.nbytes for leaf in arrays.values())
        free = needed if is_remote(self.folder) else shutil.disk_usage(self.folder).free
        if free < needed:
            raise self._write_error(
                step, OSError(f"it needs {needed / 1e6:.0f} MB of disk, but {free / 1e6:.0f} MB are free")
            )
        try:
            self._manager.wait_until_finished()  # Orbax skips a checkpoint while another is being written
            self._writing = step
            written = self._manager.save(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardSave(arrays), record=ocp.args.JsonSave(record)),
            )
            if not written:
                raise OSError("Orbax refused it")
            if wait:
                self._manager.wait_until_finished()
        except Exception as error:
            raise self._write_error(self._writing, error) from error

    def restore(self, like: TrainState, step: int | None = None) -> tuple[TrainState, dict[str, Any]]:
        """Reads the state and the record of a step, by default the last one.

        Args:
            like: a state of the same structure and shapes, with arrays or `jax.ShapeDtypeStruct`; the result has its
                shardings.

        Raises:
            CheckpointError: it cannot be read, or is of another model or optimizer.
        """
        step = self.latest() if step is None else step
        place = self.folder / str(step)
        wanted = flat(jax.tree.map(ocp.utils.to_shape_dtype_struct, like))
        try:
            known = self._manager.item_metadata(step)[STATE]
            found = {name: (tuple(leaf.shape), str(leaf.dtype)) for name, leaf in known.items()}
            own = {name: (tuple(leaf.shape), str(leaf.dtype)) for name, leaf in wanted.items()}
            if found != own:
                differing = sorted(name for name in found.keys() | own.keys() if found.get(name) != own.get(name))
                raise ValueError(f"it is of another model or optimizer; first of {len(differing)}: {differing[0]}")
            restored = self._manager.restore(
                step, args=ocp.args.Composite(state=ocp.args.StandardRestore(wanted), record=ocp.args.JsonRestore())
            )
        except Exception as error:
            others = [str(other) for other in self._manager.all_steps() if other != step]
            rest = f"; remove that folder to resume from step {others[-1]}" if others else "; it is the only one"
            raise CheckpointError(f"{place}: this checkpoint cannot be read ({reason(error)}){rest}") from error
        leaves = [restored[STATE][name] for name in names_of(like)]
        return jax.tree.unflatten(jax.tree.structure(like), leaves), dict(restored[RECORD_ITEM])

    def close(self) -> None:
        """Waits for pending writes and stops Orbax's threads."""
        self._manager.close()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception as failed:
            if error is None:
                raise self._write_error(self._writing, failed) from failed

    def _write_error(self, step: int | None, error: Exception) -> CheckpointError:
        what = "a checkpoint" if step is None else f"the checkpoint of step {step}"
        kept = [int(entry.name) for entry in self.folder.iterdir() if entry.name.isdigit()]
        good = f"the last good one is of step {max(kept)}" if kept else "there is no earlier one"
        return CheckpointError(f"{self.folder}: {what} could not be written ({reason(error)}); {good}")


def names_of(state: TrainState) -> list[str]:
    """The names of a state's leaves in a checkpoint, in order: ``.params['fc']['bias'].value``."""
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(state)[0]]


def flat(state: TrainState) -> dict[str, Any]:
    """A state's arrays by their names in a checkpoint."""
    return dict(zip(names_of(state), jax.tree.leaves(state), strict=True))

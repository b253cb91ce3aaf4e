"""Reading the checkpoints of a run without touching its folder: which there are, and arrays by their names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from jaxdet.parallel import many, process_index
from jaxdet.paths import absolute, is_remote, parse_json
from jaxdet.saving.disk import reason

STATE, RECORD_ITEM = "state", "record"  # the two items of a checkpoint
_JSON = "metadata"  # the file that Orbax keeps a JSON item in
_WHOLE = "commit_success.txt"  # in a bucket, where nothing is renamed, marks what was written to its end


class CheckpointError(OSError):
    """A checkpoint could not be written or read: one line that says which, why, and what is left."""


def saved_steps(folder: Path) -> list[int]:
    """The steps of the whole checkpoints in a folder, ascending; none where there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(int(entry.name) for entry in folder.iterdir() if is_checkpoint(entry))


def is_checkpoint(place: Path) -> bool:
    """Whether this is the folder of one whole checkpoint."""
    return place.name.isdecimal() and (place / STATE).is_dir() and (not is_remote(place) or (place / _WHOLE).exists())


class StoredState:
    """One checkpoint, to be read.

    Args:
        place: its folder, ``run/checkpoints/500``.
        together: all processes of a job read it at once, each its own shards.

    Attributes:
        shapes: ``{name: (shape, dtype)}`` of its arrays.
        record: what was written beside them.

    Raises:
        CheckpointError: it cannot be read.
    """

    def __init__(self, place: Path, *, together: bool = False) -> None:
        self.place = absolute(place)
        self.step, self._together = int(place.name), together
        try:
            self.record: dict[str, Any] = parse_json((self.place / RECORD_ITEM / _JSON).read_bytes())
            if not isinstance(self.record, dict):
                raise ValueError("its record is no JSON object")
            known = ocp.PyTreeCheckpointHandler().metadata(epath.Path(self.place / STATE))
            self.shapes = {name: (tuple(leaf.shape), str(leaf.dtype)) for name, leaf in known.items()}
        except Exception as error:  # Orbax raises a dozen kinds
            raise self._unread(error) from error

    def read(self, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
        """The arrays of these names, placed as the structs say.

        Raises:
            CheckpointError: they cannot be read.
        """
        structs = dict(wanted)
        try:
            with self._checkpointer() as checkpointer:
                restore_args = ocp.checkpoint_utils.construct_restore_args(structs)
                return checkpointer.restore(
                    self.place / STATE,
                    ocp.args.PyTreeRestore(item=structs, restore_args=restore_args, partial_restore=True),
                )
        except Exception as error:
            raise self._unread(error) from error

    def _checkpointer(self) -> ocp.Checkpointer:
        handler = ocp.PyTreeCheckpointHandler()
        if self._together or not many():
            return ocp.Checkpointer(handler)
        own = process_index()
        options = ocp.options.MultiprocessingOptions(
            primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process{own}"
        )
        return ocp.Checkpointer(handler, multiprocessing_options=options)

    def _unread(self, error: Exception) -> CheckpointError:
        return CheckpointError(f"{self.place}: this checkpoint cannot be read ({reason(error)})")

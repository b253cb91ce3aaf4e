"""Reading the checkpoints of a run, without changing its folder."""

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
_COMPLETE = "commit_success.txt"  # marks complete checkpoints in a bucket, where folders are not renamed


class CheckpointError(OSError):
    """A checkpoint could not be written or read. The message has the reason, and the checkpoints that remain."""


def saved_steps(folder: Path) -> list[int]:
    """The steps of the complete checkpoints in a folder, ascending; none if the folder does not exist."""
    if not folder.is_dir():
        return []
    return sorted(int(entry.name) for entry in folder.iterdir() if is_checkpoint(entry))


def is_checkpoint(place: Path) -> bool:
    """Whether this is the folder of a complete checkpoint."""
    complete = not is_remote(place) or (place / _COMPLETE).exists()
    return place.name.isdecimal() and (place / STATE).is_dir() and complete


class StoredState:
    """A checkpoint on disk.

    Args:
        place: its folder, such as ``run/checkpoints/500``.
        together: whether all processes of a job read it together, each its own shards.

    Attributes:
        shapes: ``{name: (shape, dtype)}`` of its arrays.
        record: the JSON record that was saved with them.

    Raises:
        CheckpointError: it cannot be read.
    """

    def __init__(self, place: Path, *, together: bool = False) -> None:
        self.place = absolute(place)
        self.step, self._together = int(place.name), together
        try:
            self.record: dict[str, Any] = parse_json((self.place / RECORD_ITEM / _JSON).read_bytes())
            if not isinstance(self.record, dict):
                raise ValueError("its record is not a JSON object")
            known = ocp.PyTreeCheckpointHandler().metadata(epath.Path(self.place / STATE))
            self.shapes = {name: (tuple(leaf.shape), str(leaf.dtype)) for name, leaf in known.items()}
        except Exception as error:  # Orbax raises many types
            raise self._read_error(error) from error

    def read(self, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
        """Reads arrays by name, with the shardings of the structs.

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
            raise self._read_error(error) from error

    def _checkpointer(self) -> ocp.Checkpointer:
        handler = ocp.PyTreeCheckpointHandler()
        if self._together or not many():
            return ocp.Checkpointer(handler)
        own = process_index()
        options = ocp.options.MultiprocessingOptions(
            primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process{own}"
        )
        return ocp.Checkpointer(handler, multiprocessing_options=options)

    def _read_error(self, error: Exception) -> CheckpointError:
        return CheckpointError(f"{self.place}: this checkpoint cannot be read ({reason(error)})")

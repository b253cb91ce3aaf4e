"""Stopping a run on SIGTERM, which clusters send before they reclaim a machine, and on Ctrl-C.

Several processes stop together: JAX catches SIGTERM, notifies the other processes, and chooses a step that none of
them has begun, at which all of them save and stop.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType

from jax.experimental import multihost_utils

from jaxdet.parallel import many


class Stopped(Exception):
    """A run was stopped and can be resumed. signal: the number of the signal; step: the step of the saved state."""

    def __init__(self, number: int, step: int) -> None:
        self.signal, self.step = number, step
        super().__init__(f"{signal.Signals(number).name}: stopped and saved at step {step}")


class StopRequest:
    """A context that records the first SIGTERM or Ctrl-C in ``received``; a second one has its usual effect.

    Python allows signal handlers only in the main thread; in other threads nothing is recorded.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, object] = {}
        self._many = many()

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            caught = (signal.SIGINT,) if self._many else (signal.SIGTERM, signal.SIGINT)
            self._before = {number: signal.signal(number, self._note) for number in caught}
        return self

    def at(self, step: int) -> int | None:
        """The signal for which the run has to stop after ``step`` steps, or None. Call it after every step."""
        if self._many and multihost_utils.reached_preemption_sync_point(step):
            self.received = signal.SIGTERM
        return self.received

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._restore()
        if self._many:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self.received = number

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)  # type: ignore[arg-type]

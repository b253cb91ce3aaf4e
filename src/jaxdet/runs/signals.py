"""Ending a run on request: SIGTERM, which clusters send before they take a machine, and Ctrl-C."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

_CAUGHT = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):
    """A run ended early on request and can go on; ``signal`` is the request's number, ``step`` what is saved."""

    def __init__(self, number: int, step: int) -> None:
        self.signal, self.step = number, step
        super().__init__(f"{signal.Signals(number).name}: stopped and saved at step {step}")


class StopRequest:
    """Within this context the first SIGTERM or Ctrl-C is noted in ``received``; a second one acts as ever.

    Python allows handlers in the main thread alone; elsewhere nothing is noted.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _CAUGHT}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)  # type: ignore[arg-type]

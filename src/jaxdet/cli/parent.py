"""The small parent of a process that works with others, which can still speak once the runtime has ended that process.

When a process of a job is lost, JAX's runtime ends all others from within, with a C++ stack trace: no Python code runs
any more. So a command that has others to work with runs in a child process. The parent hands signals and output through
and, if the child ends like that, says in one line who was lost, what is saved, and what a restart does. A child whose
parent has gone ends at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

LOST = 75  # exit status, "try again" (EX_TEMPFAIL)
_LINE = "JAXDET_PARENT"  # to the child: the number of the socket that it shares with its parent
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_FATAL = re.compile(rb"F\d{4} \d\d:\d\d:\d\d")  # how the runtime's last words begin
_OF_OTHERS = "JAX distributed service detected fatal errors"
_SILENT = re.compile(r"stopped sending heartbeats\):\s*((?:\d+[\s,]*)+)|Task (\d+) heartbeat timeout|/task:(\d+)")
_NO_LEADER = "Failed to send RPC to coordination service"
_NOT_MET = "CoordinationService/RegisterTask"


@dataclass
class Child:
    """How a child ended: its status, and the last words of a runtime that ended it (they are not printed)."""

    status: int
    last_words: str
    hosts: list[str]  # of all processes, once they have found each other

    @property
    def lost(self) -> tuple[int, ...] | None:
        """The processes whose loss ended the child, where the runtime names them; None if that is not why."""
        if self.status != -signal.SIGABRT or _OF_OTHERS not in self.last_words:
            return None
        found = _SILENT.search(self.last_words)
        if found is not None:
            return tuple(map(int, re.findall(r"\d+", next(filter(None, found.groups())))))
        return (0,) if _NO_LEADER in self.last_words else ()


def is_child() -> bool:
    """Whether this process has such a parent."""
    return _LINE in os.environ


def run_child(command: Sequence[str]) -> Child:
    """Runs a command to its end, its output and this process's signals handed through."""
    ours, theirs = socket.socketpair()
    environment = os.environ | {_LINE: str(theirs.fileno())}
    # In a session of its own a Ctrl-C reaches it once: from here.
    child = subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, pass_fds=[theirs.fileno()], start_new_session=True
    )
    theirs.close()
    assert child.stderr is not None
    reader, told = _Reader(child.stderr), bytearray()
    threads = [threading.Thread(target=reader.read), threading.Thread(target=_listen, args=(ours, told))]
    for thread in threads:
        thread.daemon = True
        thread.start()
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, lambda number, _: child.send_signal(number)) for number in _SIGNALS}
    try:
        status = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for thread in threads:
        thread.join(timeout=5)  # grandchildren may hold its files open
    last_words = b"".join(reader.last_words)
    ended = Child(status, last_words.decode(errors="replace"), json.loads(told) if told else [])
    if ended.lost is None:
        reader.write(last_words)
    reader.end_line()
    return ended


def _listen(line: socket.socket, told: bytearray) -> None:
    with line, contextlib.suppress(OSError):
        while part := line.recv(1 << 16):
            told += part


class Parent:
    """A child's side: this process ends when its parent has gone, and can tell it something."""

    def __init__(self) -> None:
        self._line = socket.socket(
            fileno=int(os.environ.pop(_LINE))
        )  # processes that this one starts are no such child
        self._line.set_inheritable(False)
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        with contextlib.suppress(OSError):  # its end is told as an error if it has not read everything
            self._line.recv(1)
        os._exit(128 + signal.SIGKILL)

    def tell(self, hosts: Sequence[str]) -> None:
        """On which hosts the processes are."""
        self._line.sendall(json.dumps(list(hosts)).encode())


class _Reader:
    """Copies a child's standard error to this process's, but for a runtime's last words and all after them."""

    def __init__(self, source: IO[bytes]) -> None:
        self.last_words: list[bytes] = []
        self._source, self._last = source, b"\n"

    def read(self) -> None:
        """Until the child has closed it."""
        rest = b""
        while chunk := os.read(self._source.fileno(), 1 << 16):
            *lines, rest = re.split(rb"(?<=[\n\r])", rest + chunk)
            if rest and not self.last_words and not rest.startswith(b"F"):  # a progress bar ends no line
                lines, rest = [*lines, rest], b""
            for line in lines:
                if self.last_words or _FATAL.match(line):
                    self.last_words.append(line)
                else:
                    self.write(line)
        if rest:
            self.last_words.append(rest)
        self._source.close()

    def write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # a full disk beneath it: the child would wait for ever to be read
            sys.stderr.flush()
            with open(sys.stderr.fileno(), "wb", closefd=False) as stream:
                stream.write(data)
        self._last = data[-1:] or self._last

    def end_line(self) -> None:
        """What is written next begins a line."""
        if self._last != b"\n":
            self.write(b"\n")


def lost_line(ended: Child, saved: str) -> str:
    """What the user of a command is told about processes that were lost, or never came."""
    if not ended.lost and _NOT_MET in ended.last_words:
        return (
            "the processes of this job did not find each other in time: is every one of them running, with the same "
            "--coordinator and --num-processes, and the coordinator's port open?"
        )
    names = [
        f"{index} ({ended.hosts[index]})" if index < len(ended.hosts) else f"{index}" for index in ended.lost or ()
    ]
    who = f"process {', '.join(names)}" if names else "another process"
    count = f" of {len(ended.hosts)}" if ended.hosts else ""
    return f"{who}{count} is lost: it failed, was killed, or its host has gone. {saved}"

"""A parent process for commands that run as several processes: it reports when JAX's runtime has ended the command.

When a process of a job is lost, JAX's runtime aborts all others with a C++ stack trace, without running Python code.
Therefore a command that works with other processes runs in a child process. The parent forwards signals and output and,
if the runtime has aborted the child, prints one line: which process was lost, what is saved, and what a restart does. A
child whose parent has ended exits at once.
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

LOST = 75  # exit status if another process is lost: EX_TEMPFAIL, "try again"
_SOCKET_VARIABLE = "JAXDET_PARENT"  # variable of the child: the file descriptor of its socket to the parent
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_FATAL = re.compile(rb"F\d{4} \d\d:\d\d:\d\d")  # the beginning of a fatal message of the runtime
_OTHERS_FAILED = "JAX distributed service detected fatal errors"
_SILENT = re.compile(r"stopped sending heartbeats\):\s*((?:\d+[\s,]*)+)|Task (\d+) heartbeat timeout|/task:(\d+)")
_NO_LEADER = "Failed to send RPC to coordination service"
_NOT_MET = "CoordinationService/RegisterTask"


@dataclass
class Child:
    """How a child ended.

    status: exit status, negative for a signal.
    last_words: the fatal message of the runtime, which is not printed if another process was lost.
    hosts: the host of each process of the job; empty if the processes have not found each other.
    """

    status: int
    last_words: str
    hosts: list[str]

    @property
    def lost(self) -> tuple[int, ...] | None:
        """The lost processes that the runtime names; None if the child did not end because of lost processes."""
        if self.status != -signal.SIGABRT or _OTHERS_FAILED not in self.last_words:
            return None
        found = _SILENT.search(self.last_words)
        if found is not None:
            return tuple(map(int, re.findall(r"\d+", next(filter(None, found.groups())))))
        return (0,) if _NO_LEADER in self.last_words else ()


def is_child() -> bool:
    """Whether this process is a child of `run_child`."""
    return _SOCKET_VARIABLE in os.environ


def run_child(command: Sequence[str]) -> Child:
    """Runs a command in a child process and waits for it. Output and signals are forwarded."""
    ours, theirs = socket.socketpair()
    environment = os.environ | {_SOCKET_VARIABLE: str(theirs.fileno())}
    # In a new session the child gets a Ctrl-C only once, from this process.
    child = subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, pass_fds=[theirs.fileno()], start_new_session=True
    )
    theirs.close()
    assert child.stderr is not None
    reader, received = _Reader(child.stderr), bytearray()
    threads = [threading.Thread(target=reader.read), threading.Thread(target=_receive, args=(ours, received))]
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
        thread.join(timeout=5)  # grandchildren may keep its files open
    last_words = b"".join(reader.last_words)
    ended = Child(status, last_words.decode(errors="replace"), json.loads(received) if received else [])
    if ended.lost is None:
        reader.write(last_words)
    reader.end_line()
    return ended


def _receive(line: socket.socket, received: bytearray) -> None:
    """Appends what a child sends, until it closes the socket."""
    with line, contextlib.suppress(OSError):
        while part := line.recv(1 << 16):
            received += part


class Parent:
    """The parent, seen from the child. This process exits when the parent has ended."""

    def __init__(self) -> None:
        # Without the variable, processes that this one starts do not take themselves for such children.
        self._socket = socket.socket(fileno=int(os.environ.pop(_SOCKET_VARIABLE)))
        self._socket.set_inheritable(False)
        threading.Thread(target=self._exit_with_parent, daemon=True).start()

    def _exit_with_parent(self) -> None:
        with contextlib.suppress(OSError):  # the socket's end is an error if the parent has not read everything
            self._socket.recv(1)
        os._exit(128 + signal.SIGKILL)

    def tell(self, hosts: Sequence[str]) -> None:
        """Sends the host of each process of the job."""
        self._socket.sendall(json.dumps(list(hosts)).encode())


class _Reader:
    """Copies a child's standard error to this process's, up to a fatal message of the runtime, which is kept."""

    def __init__(self, source: IO[bytes]) -> None:
        self.last_words: list[bytes] = []
        self._source, self._last = source, b"\n"

    def read(self) -> None:
        """Reads until the child has closed its standard error."""
        rest = b""
        while chunk := os.read(self._source.fileno(), 1 << 16):
            *lines, rest = re.split(rb"(?<=[\n\r])", rest + chunk)
            if (
                rest and not self.last_words and not rest.startswith(b"F")
            ):  # a progress bar, which does not end its line
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
        with contextlib.suppress(OSError):  # such as a full disk; the child would wait for a reader for ever
            sys.stderr.flush()
            with open(sys.stderr.fileno(), "wb", closefd=False) as stream:
                stream.write(data)
        self._last = data[-1:] or self._last

    def end_line(self) -> None:
        """Ends a line that is not complete."""
        if self._last != b"\n":
            self.write(b"\n")


def lost_line(ended: Child, saved: str) -> str:
    """The message about processes that were lost, or never found each other."""
    if not ended.lost and _NOT_MET in ended.last_words:
        return (
            "the processes of this job did not find each other in time: check that all of them run with the same "
            "--coordinator and --num-processes, and that the coordinator's port is open"
        )
    names = [
        f"{index} ({ended.hosts[index]})" if index < len(ended.hosts) else f"{index}" for index in ended.lost or ()
    ]
    who = f"process {', '.join(names)}" if names else "another process"
    count = f" of {len(ended.hosts)}" if ended.hosts else ""
    return f"{who}{count} is lost: it failed, was killed, or its host is gone. {saved}"

"""The parent process of a command that works with others: what it hands through, and what it says in the end."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from jaxdet.cli.hosts import run_command
from jaxdet.cli.parent import Child, lost_line, run_child

_FATAL = (
    "F1124 05:46:30.551048    6679 client.h:80] Terminating process because the JAX distributed service detected fatal "
    "errors. This most likely means that another task died.\nabsl::Status: {status}\n*** Check failure stack trace\n"
)
_SILENT = "UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats):\n1\n3\nThe tasks have crashed."
_BARRIER = "INTERNAL: Barrier failed because: UNAVAILABLE: Task 2 heartbeat timeout. This indicates that"
_LEADER = "UNAVAILABLE: Failed to send RPC to coordination service. Either the leader task was preempted"


def _python(code):
    return [sys.executable, "-c", f"import os, sys, signal, time\nfrom jaxdet.cli import parent\n{code}"]


@pytest.fixture(autouse=True)
def import_path(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))


@pytest.mark.parametrize("status, lost", [(_SILENT, (1, 3)), (_BARRIER, (2,)), (_LEADER, (0,)), ("UNKNOWN: x", ())])
def test_the_runtime_s_last_words_become_a_line(capfd, status, lost):
    words = "\n" + _FATAL.format(status=status)
    ended = run_child(
        _python(
            "parent.Parent().tell(['a', 'b', 'c', 'd'])\n"
            "sys.stderr.write('Fine\\rtrain: 40%'); sys.stderr.flush(); time.sleep(0.1)\n"
            f"sys.stderr.write({words!r}); sys.stderr.flush(); os.abort()"
        )
    )
    assert ended.status == -signal.SIGABRT and ended.lost == lost and ended.hosts == ["a", "b", "c", "d"]
    assert capfd.readouterr().err == "Fine\rtrain: 40%\n"
    assert "Check failure" in ended.last_words


def test_what_is_said_of_lost_processes():
    assert lost_line(Child(-6, _FATAL.format(status=_SILENT), ["a", "b"]), "Rest") == (
        "process 1 (b), 3 of 2 is lost: it failed, was killed, or its host is gone. Rest"
    )
    assert lost_line(Child(-6, _FATAL, []), "Rest").startswith("another process is lost")
    never_met = "DEADLINE_EXCEEDED: Deadline Exceeded\n\nRPC: /xla.coordination.CoordinationService/RegisterTask"
    assert "did not find each other in time" in lost_line(Child(-6, _FATAL.format(status=never_met), []), "Rest")


def test_another_abort_keeps_its_words(capfd):
    ended = run_child(
        _python("sys.stderr.write('F1124 05:46:30.5 1 x.cc] my own fault\\n'); sys.stderr.flush(); os.abort()")
    )
    assert ended.lost is None and "my own fault" in capfd.readouterr().err


def test_status_output_and_signals_are_handed_through(capfd, tmp_path):
    ready = tmp_path / "ready"
    code = (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "print('up', flush=True); sys.stderr.write('half a line'); sys.stderr.flush()\n"
        f"open({str(ready)!r}, 'w').close(); time.sleep(600)"
    )
    before = signal.getsignal(signal.SIGTERM)

    def signal_when_ready():  # both handlers are in place: the child's, and the one that hands signals on
        while not ready.exists() or signal.getsignal(signal.SIGTERM) == before:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=signal_when_ready, daemon=True).start()
    ended = run_child(_python(code))
    assert ended.status == 7 and ended.lost is None
    out, err = capfd.readouterr()
    assert out == "up\n" and err == "half a line\n"


def test_a_child_ends_with_its_parent():
    """Also if the parent was killed, and has not read what it was told."""
    child = _python(
        "parent.Parent().tell(['a']); assert not parent.is_child(); print(os.getpid(), flush=True); time.sleep(60)"
    )
    with subprocess.Popen(_python(f"parent.run_child({child!r})"), stdout=subprocess.PIPE, text=True) as process:
        number = int(process.stdout.readline())
        process.kill()
    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{number}") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{number}")


def test_who_works_alone_has_no_parent(monkeypatch):
    for name in ("JAX_COORDINATOR_ADDRESS", "SLURM_STEP_NODELIST", "KUBERNETES_SERVICE_HOST", "TPU_WORKER_HOSTNAMES"):
        monkeypatch.delenv(name, raising=False)

    class Arguments:
        command, coordinator, num_processes, process_id = "train", None, None, None

        @staticmethod
        def run(args):
            return os.getpid()

    assert run_command(Arguments, ["train"], lambda function, args: function(args)) == os.getpid()
    monkeypatch.setenv("SLURM_STEP_NODELIST", "node[1-2]")
    Arguments.num_processes = 1
    assert run_command(Arguments, ["train"], lambda function, args: function(args)) == os.getpid()


def test_a_full_disk_beneath_the_errors_does_not_stop_the_child(monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        ended = run_child(_python("sys.stderr.write('line\\n' * 100_000); sys.exit(3)"))  # more than a pipe holds
    assert ended.status == 3


def test_a_warning_in_a_variable_is_no_host(monkeypatch):
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "WARNING: could not determine them")
    monkeypatch.setattr("jaxdet.cli.hosts._TPUS", ())
    args = argparse.Namespace(command="train", coordinator=None, num_processes=None, run=lambda args: 4)
    assert run_command(args, [], lambda run, args: run(args)) == 4

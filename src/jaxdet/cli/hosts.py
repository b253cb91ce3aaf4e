"""Commands that run as several processes: their arguments, start and end."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial

from jaxdet.cli.parent import LOST, Parent, is_child, lost_line, run_child

Run = Callable[[Callable[[argparse.Namespace], int], argparse.Namespace], int]

# Variables that launchers of several processes set. Where one is set, JAX finds out whether there are other processes.
_LAUNCHER_VARIABLES = (
    "JAX_COORDINATOR_ADDRESS", "SLURM_STEP_NODELIST", "OMPI_MCA_orte_hnp_uri", "KUBERNETES_SERVICE_HOST",
    "TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES",
)  # fmt: skip
_NO_HOST_PREFIX = "WARNING"  # JAX sets a variable to a text that begins so if libtpu is installed but there is no TPU
_TPUS = ("/dev/accel0", "/dev/vfio/0")
_RUNTIME_SECONDS = 15  # seconds after a missed heartbeat within which the runtime ends this process


def add_distributed_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--coordinator``, ``--num-processes`` and ``--process-id``, for commands that can run on many hosts."""
    group = parser.add_argument_group(
        "many hosts", "detected on TPU pods, GKE and SLURM; elsewhere run the same command on each host with"
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0, the same for all")
    group.add_argument("--num-processes", type=int, metavar="N", help="number of processes; 1: do not look for others")
    group.add_argument("--process-id", type=int, metavar="I", help="index of this process, from 0")


def run_command(args: argparse.Namespace, argv: Sequence[str], run: Run) -> int:
    """Runs a command that has the arguments of `add_distributed_arguments`, alone or as one of several processes.

    Args:
        argv: the command line, which a child process runs if there may be other processes.
        run: calls a command's function, reports its errors, and returns the exit status.
    """
    if is_child():
        return _run_with_others(args, run, Parent())
    if not _may_have_others(args):
        return run(args.run, args)
    ended = run_child([sys.executable, "-m", "jaxdet", *argv])
    if ended.lost is not None:
        print(f"jaxdet {args.command}: {lost_line(ended, _restart_text(args))}", file=sys.stderr)
        return LOST
    if ended.status < 0 and not ended.last_words:
        print(f"jaxdet {args.command}: process ended by signal {-ended.status}. {_restart_text(args)}", file=sys.stderr)
    return 128 - ended.status if ended.status < 0 else ended.status


def say(text: str) -> None:
    """Prints a line, only in the first of several processes."""
    from jaxdet.parallel import is_first

    if is_first():
        print(text)


def _may_have_others(args: argparse.Namespace) -> bool:
    """Whether other processes may have been started for the same command."""
    if args.num_processes is not None or args.coordinator is not None:
        return args.num_processes != 1
    values = (os.environ[name] for name in _LAUNCHER_VARIABLES if name in os.environ)
    return any(not value.startswith(_NO_HOST_PREFIX) for value in values) or any(map(os.path.exists, _TPUS))


def _run_with_others(args: argparse.Namespace, run: Run, parent: Parent) -> int:
    """Connects to the other processes, then runs the command."""
    from jaxdet.parallel import is_first, many

    try:
        status = run(partial(_join_and_run, parent=parent), args)
    except Exception:
        traceback.print_exc()
        status = 1
    if status in (0, 143) or not many():
        return status
    # Exits without waiting for the others: they may wait for this process in the middle of a step.
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(2 if is_first() else 0)  # the others end with the first process; time for their messages
    os._exit(status)


def _join_and_run(args: argparse.Namespace, parent: Parent) -> int:
    from jaxdet.parallel import host_names, initialize, many, process_count

    initialize(args.coordinator, args.num_processes, args.process_id)
    if not many():
        return args.run(args)
    import jax

    if args.command != "train":  # only training uses JAX's handler, which agrees on a step to stop at
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax logs each preemption in every process
    try:
        parent.tell(host_names())
        say(f"devices     {jax.device_count()} ({jax.devices()[0].device_kind}) of {process_count()} processes")
        return args.run(args)
    except Exception as error:
        _await_runtime_error(error)
        raise


def _await_runtime_error(error: BaseException) -> None:
    """Waits if an error may come from a lost process: the runtime then reports it and ends this process."""
    import jax

    from jaxdet.parallel import HEARTBEAT_SECONDS, many

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, jax.errors.JaxRuntimeError):
        cause = cause.__cause__ or cause.__context__
    if many() and cause is not None and "RESOURCE_EXHAUSTED" not in str(cause):
        time.sleep(HEARTBEAT_SECONDS + _RUNTIME_SECONDS)


def _restart_text(args: argparse.Namespace) -> str:
    """The last saved step of a run, and what the same command does when it is started again."""
    from jaxdet.paths import is_remote, to_path

    if args.command != "train":
        return "Run the same command on all hosts again"
    out = args.out
    folder = to_path(out) / "checkpoints"
    steps = [
        int(entry.name)
        for entry in (folder.iterdir() if folder.is_dir() else ())
        if entry.name.isdigit() and (not is_remote(out) or (entry / "commit_success.txt").exists())
    ]
    if not steps:
        return f"No step is saved in {out} yet; the same command on all hosts starts again"
    return f"The last saved step is {max(steps)}; the same command on all hosts continues from it"

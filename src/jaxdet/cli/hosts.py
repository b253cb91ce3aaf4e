"""Commands that run as several processes: their arguments, and how such a process begins and ends."""

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

# What a process may find where others have been started with it; JAX then finds out whether that is so.
_SIGNS = (
    "JAX_COORDINATOR_ADDRESS", "SLURM_STEP_NODELIST", "OMPI_MCA_orte_hnp_uri", "KUBERNETES_SERVICE_HOST",
    "TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES",
)  # fmt: skip
_NO_HOST = "WARNING"  # how what JAX leaves in such a place begins, where libtpu is installed and no TPU is
_TPUS = ("/dev/accel0", "/dev/vfio/0")
_PATIENCE = 15  # seconds beyond the heartbeat's that the runtime may take to end a process whose others are gone


def add_distributed_arguments(parser: argparse.ArgumentParser) -> None:
    """``--coordinator``, ``--num-processes`` and ``--process-id``; a command with these can run on many hosts."""
    group = parser.add_argument_group(
        "many hosts", "found out by itself on TPU pods, GKE and SLURM; elsewhere the same command on each host with"
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0; the same for all")
    group.add_argument("--num-processes", type=int, metavar="N", help="how many there are; 1: work alone")
    group.add_argument("--process-id", type=int, metavar="I", help="which one this is, from 0")


def run_command(args: argparse.Namespace, argv: Sequence[str], run: Run) -> int:
    """Runs a command with the arguments of `add_distributed_arguments`, alone or with the processes it belongs to.

    Args:
        argv: the whole command line, to run it in a child process.
        run: calls a command's function, tells its errors, and gives the exit status.
    """
    if is_child():
        return _run_joined(args, run, Parent())
    if not _may_have_others(args):
        return run(args.run, args)
    ended = run_child([sys.executable, "-m", "jaxdet", *argv])
    if ended.lost is not None:
        print(f"jaxdet {args.command}: {lost_line(ended, _saved(args))}", file=sys.stderr)
        return LOST
    if ended.status < 0 and not ended.last_words:
        print(f"jaxdet {args.command}: process ended by signal {-ended.status}. {_saved(args)}", file=sys.stderr)
    return 128 - ended.status if ended.status < 0 else ended.status


def say(text: str) -> None:
    """Prints a line, in one of several processes."""
    from jaxdet.parallel import is_first

    if is_first():
        print(text)


def _may_have_others(args: argparse.Namespace) -> bool:
    if args.num_processes is not None or args.coordinator is not None:
        return args.num_processes != 1
    signs = (os.environ[name] for name in _SIGNS if name in os.environ)
    return any(not sign.startswith(_NO_HOST) for sign in signs) or any(map(os.path.exists, _TPUS))


def _run_joined(args: argparse.Namespace, run: Run, parent: Parent) -> int:
    """Joins the others, then runs the command."""
    from jaxdet.parallel import is_first, many

    try:
        status = run(partial(_join_and_run, parent=parent), args)
    except Exception:
        traceback.print_exc()
        status = 1
    if status in (0, 143) or not many():
        return status
    # The others may wait for this process in the middle of a step: it leaves without waiting for them.
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(2 if is_first() else 0)  # with the first one the others end, who may have something to say, too
    os._exit(status)


def _join_and_run(args: argparse.Namespace, parent: Parent) -> int:
    from jaxdet.parallel import host_names, initialize, many, process_count

    initialize(args.coordinator, args.num_processes, args.process_id)
    if not many():
        return args.run(args)
    import jax

    if args.command != "train":  # which asks JAX's handler for a step to stop at; nothing else does
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells every process's log of each pre-emption
    try:
        parent.tell(host_names())
        say(f"devices     {jax.device_count()} ({jax.devices()[0].device_kind}) of {process_count()} processes")
        return args.run(args)
    except Exception as error:
        _await_end(error)
        raise


def _await_end(error: BaseException) -> None:
    """Where a step failed because another process is gone, the runtime is about to say so, and ends this one."""
    import jax

    from jaxdet.parallel import HEARTBEAT_SECONDS, many

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, jax.errors.JaxRuntimeError):
        cause = cause.__cause__ or cause.__context__
    if many() and cause is not None and "RESOURCE_EXHAUSTED" not in str(cause):
        time.sleep(HEARTBEAT_SECONDS + _PATIENCE)


def _saved(args: argparse.Namespace) -> str:
    """What is saved, and what starting again does."""
    from jaxdet.paths import is_remote, to_path

    if args.command != "train":
        return "Start the same command on all hosts again"
    out = args.out
    folder = to_path(out) / "checkpoints"
    steps = [
        int(entry.name)
        for entry in (folder.iterdir() if folder.is_dir() else ())
        if entry.name.isdigit() and (not is_remote(out) or (entry / "commit_success.txt").exists())
    ]
    if not steps:
        return f"No step is saved in {out} yet; the same command, on all hosts, starts again"
    return f"The last saved step is {max(steps)}; the same command, on all hosts, goes on from it"

"""The arguments of commands that run as several processes, and how such a process begins."""

from __future__ import annotations

import argparse


def add_distributed_arguments(parser: argparse.ArgumentParser) -> None:
    """``--coordinator``, ``--num-processes`` and ``--process-id``; a command with these can run on many hosts."""
    group = parser.add_argument_group(
        "many hosts", "found out by itself on TPU pods, GKE and SLURM; elsewhere the same command on each host with"
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0; the same for all")
    group.add_argument("--num-processes", type=int, metavar="N", help="how many there are; 1: work alone")
    group.add_argument("--process-id", type=int, metavar="I", help="which one this is, from 0")


def join(args: argparse.Namespace) -> bool:
    """Joins the other processes, if there are any; whether there are. Before anything else touches a device."""
    from jaxdet.parallel import initialize, many

    initialize(args.coordinator, args.num_processes, args.process_id)
    return many()

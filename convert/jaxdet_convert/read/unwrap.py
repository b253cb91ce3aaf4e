"""Weights of any source under a known model's names: what a framework put before them is found and taken off."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from jaxdet_convert.read.container import choose_remedy, several
from jaxdet_convert.read.darknet_file import DarknetLayer
from jaxdet_convert.read.errors import refuse
from jaxdet_convert.read.weights import COUNTER, Weights, read_weights
from jaxdet_convert.sources.backbones import body_prefixes

_BODY, _BARE_BODY, _BARE_FPN = "backbone.body.", "body.", "fpn."
_SHOWN = 6


def read_model(
    weights: str | os.PathLike[str] | Mapping[str, Any],
    *,
    container: str | None = None,
    layers: Sequence[DarknetLayer] | Callable[[int], Sequence[DarknetLayer]] | None = None,
) -> Weights:
    """As `jaxdet_convert.read.weights.read_weights`, with any prefix of a known model's names taken off.

    The prefix is whatever stands before the names of a known backbone: ``model.``, ``detector.net.``, and so on.

    Raises:
        WeightsError: the file does not read; or several prefixes, or names beside the prefix, leave open what is meant.
    """
    read = read_weights(weights, container=container, layers=layers)
    roots = model_prefixes(read.tensors)
    if not roots or "" in roots:
        return read
    where = read.file or "the weights"
    paths = [".".join(filter(None, (read.container, read.prefix[:-1], root[:-1]))) for root in roots]
    if len(roots) > 1:
        raise several(where, paths)
    (root,) = roots
    others = [name for name in read.tensors if not name.startswith(root)]
    left = [name for name in others if not _counts_averages(name, root)]
    if left:
        shown = ", ".join(left[:_SHOWN]) + (", ..." if len(left) > _SHOWN else "")
        raise refuse(
            where,
            f"only the names under {root!r} are of a model that is known here; beside them are {len(left)} ({shown})",
            choose_remedy(paths[0]),
        )
    tensors = {name.removeprefix(root): tensor for name, tensor in read.tensors.items() if name.startswith(root)}
    return replace(read, tensors=tensors, prefix=read.prefix + root, beside=(*read.beside, *others))


def model_prefixes(names: Iterable[str]) -> list[str]:
    """What stands before the names of each known model, outermost alone: a detector rather than its backbone."""
    names = list(names)
    roots = {_root(prefix, names) for prefix in body_prefixes(names)}
    return sorted(root for root in roots if not any(root != outer and root.startswith(outer) for outer in roots))


def _root(prefix: str, names: Sequence[str]) -> str:
    """Where the model begins that a backbone belongs to: a detector, where other parts lie beside its ``body``."""
    for body, beside in ((_BODY, ""), (_BARE_BODY, _BARE_FPN)):
        if f".{prefix}".endswith(f".{body}"):
            outer = prefix.removesuffix(body)
            if any(name.startswith(outer + beside) and not name.startswith(prefix) for name in names):
                return outer
    return prefix


def _counts_averages(name: str, root: str) -> bool:
    """Whether it is the counter of the averaged model that wraps what lies under ``root``."""
    outer, _, last = name.rpartition(".")
    return last == COUNTER and root.startswith(outer)


def tell(read: Weights, cast: Mapping[tuple[str, str], int]) -> None:
    """Says on the log "jaxdet" what was assumed about weights: one line each for wrappers and for changed dtypes.

    Args:
        cast: how many parameters changed their dtype, by (old, new).
    """
    where = read.file or "the weights"
    lines = []
    if read.container is not None and "." in read.container:
        lines.append(f"the weights under {read.container!r} are taken")
    if read.prefix:
        lines.append(f"the prefix {read.prefix!r} is taken off the names")
    if read.wrappers:
        lines.append(f"{', '.join(map(repr, read.wrappers))} is taken out of the names")
    lines += [f"{count} parameters are cast from {old} to {new}" for (old, new), count in cast.items()]
    for line in lines:
        logging.getLogger("jaxdet").warning("%s: %s", where, line)

"""Reading weights and removing the prefix that a framework added to the names."""

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
from jaxdet_convert.sources.backbones import backbone_prefixes

_BODY, _BARE_BODY, _BARE_FPN = "backbone.body.", "body.", "fpn."
_SHOWN = 6


def read_model(
    weights: str | os.PathLike[str] | Mapping[str, Any],
    *,
    container: str | None = None,
    layers: Sequence[DarknetLayer] | Callable[[int], Sequence[DarknetLayer]] | None = None,
) -> Weights:
    """Reads weights and removes the prefix of a known model's names.

    The prefix is the text before the names of a known backbone, such as ``model.`` or ``detector.net.``. The arguments
    are those of `jaxdet_convert.read.weights.read_weights`.

    Raises:
        WeightsError: the file cannot be read, or there are several prefixes, or names without the prefix.
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
    left = [name for name in others if not _is_average_counter(name, root)]
    if left:
        shown = ", ".join(left[:_SHOWN]) + (", ..." if len(left) > _SHOWN else "")
        raise refuse(
            where,
            f"only the names under {root!r} belong to a known model; other names: {len(left)} ({shown})",
            choose_remedy(paths[0]),
        )
    tensors = {name.removeprefix(root): tensor for name, tensor in read.tensors.items() if name.startswith(root)}
    return replace(read, tensors=tensors, prefix=read.prefix + root, beside=(*read.beside, *others))


def model_prefixes(names: Iterable[str]) -> list[str]:
    """The prefixes of known models, only the outermost of each: that of a detector, not of its backbone."""
    names = list(names)
    roots = {_root(prefix, names) for prefix in backbone_prefixes(names)}
    return sorted(root for root in roots if not any(root != outer and root.startswith(outer) for outer in roots))


def _root(prefix: str, names: Sequence[str]) -> str:
    """The prefix of the model that contains a backbone: of a detector, if there are other parts beside ``body``."""
    for body, beside in ((_BODY, ""), (_BARE_BODY, _BARE_FPN)):
        if f".{prefix}".endswith(f".{body}"):
            outer = prefix.removesuffix(body)
            if any(name.startswith(outer + beside) and not name.startswith(prefix) for name in names):
                return outer
    return prefix


def _is_average_counter(name: str, root: str) -> bool:
    """Whether a name is the counter of an averaged model that wraps the names under ``root``."""
    outer, _, last = name.rpartition(".")
    return last == COUNTER and root.startswith(outer)


def log_changes(read: Weights, cast: Mapping[tuple[str, str], int]) -> None:
    """Logs to "jaxdet" how the weights were changed: one line per removed prefix or wrapper, and per cast of dtypes.

    Args:
        cast: the number of parameters that were cast, by (old dtype, new dtype).
    """
    where = read.file or "the weights"
    lines = []
    if read.container is not None and "." in read.container:
        lines.append(f"the weights under {read.container!r} are used")
    if read.prefix:
        lines.append(f"the prefix {read.prefix!r} is removed from the names")
    if read.wrappers:
        lines.append(f"{', '.join(map(repr, read.wrappers))} is removed from the names")
    lines += [f"{count} parameters are cast from {old} to {new}" for (old, new), count in cast.items()]
    for line in lines:
        logging.getLogger("jaxdet").warning("%s: %s", where, line)

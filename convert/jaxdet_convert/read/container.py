"""Finding the state dict in a checkpoint: the only set of weights in it, or the one at a dotted path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from jaxdet_convert.read.errors import SAVE_LINE, refuse
from jaxdet_convert.read.pickle_file import Inert

CONTAINERS = ("state_dict", "model", "model_state_dict", "model_ema")  # also found beside tensors
_DEPTH = 4
_SHOWN = 8


class Chosen(NamedTuple):
    """A state dict, its dotted path in the checkpoint (None: it is the checkpoint), and the other entries."""

    state: Mapping[str, Any]
    path: str | None
    beside: tuple[str, ...]


def choose(root: Any, path: str | None, file: str, is_tensor: Callable[[Any], bool]) -> Chosen:
    """The state dict at a path; without a path, the only set of weights in the checkpoint.

    A path consists of keys of nested mappings, joined by dots. It may end in a common prefix of names: ``"encoder_q"``
    selects the names under ``encoder_q.`` and removes this prefix. The state of an optimizer is not a set of weights.

    Args:
        root: the content of the checkpoint.
        file: the file's name, for messages.

    Raises:
        WeightsError: there is no set of weights, there are several but no path, or an entry is not a tensor.
    """
    remedy = f"give a file with a state dict: {SAVE_LINE}"
    if not isinstance(root, Mapping):
        kind = "a single tensor" if is_tensor(root) else f"a {type(root).__name__}"
        raise refuse(file, f"it contains {kind}, not a state dict", remedy)
    found = _sets_of_weights(root, is_tensor)
    if path is not None:
        at = _at(root, path)
        if at is None:
            choices = found or sorted({*_mappings(root), *_first_parts(root, is_tensor)})
            raise refuse(file, f"it has no container {path!r}", f"choose one of: {_listed(choices)}")
        state, beside = at
    else:
        if any(_is_weight(value) for value in root.values() if is_tensor(value)):
            found = [inner for inner in found if inner.partition(".")[0] in CONTAINERS]
        if len(found) > 1:
            raise several(file, found)
        path = next(iter(found), None)
        state, beside = (root, ()) if path is None else _at(root, path) or (root, ())
    where = "" if path is None else f" under {path!r}"
    if not any(is_tensor(value) for value in state.values()):
        raise refuse(
            file, f"it contains no tensors{where} (its entries are: {_listed(sorted(map(str, state)))})",
            f"{remedy}; or name the container",
        )  # fmt: skip
    for name, value in state.items():
        if not isinstance(name, str) or not is_tensor(value):
            kind = "" if isinstance(value, Inert) else f"a {type(value).__name__}, "
            inner = [part for part in _sets_of_weights(root, is_tensor) if part != path]
            other = f"; or name the container: {_listed(inner)}" if inner else ""
            raise refuse(file, f"the entry {name!s}{where} is {kind}not a tensor", remedy + other)
    return Chosen(state, path, beside)


def several(file: str, paths: list[str]) -> Exception:
    """The error for a file with several sets of weights."""
    return refuse(file, f"it contains several sets of weights: {_listed(paths)}", choose_remedy(paths[0]))


def choose_remedy(path: str) -> str:
    """The advice for a file of which only a part can be used."""
    return f"give only that part, or select it: container={path!r} (jaxdet convert FILE --container {path})"


def _sets_of_weights(root: Mapping[Any, Any], is_tensor: Callable[[Any], bool]) -> list[str]:
    """The paths of the mappings that contain floating-point arrays; if there are none, of those with any tensors.

    Names of parameters contain dots. If there is such a set, those without dots (for example class weights among the
    hyperparameters) are ignored.
    """

    def holds(value: Mapping[Any, Any], kind: Callable[[Any], bool], mark: str = "") -> bool:
        return any(isinstance(name, str) and mark in name and is_tensor(v) and kind(v) for name, v in value.items())

    inner = dict(_inner_mappings(root))
    for kind in (_is_weight, lambda tensor: True):
        found = [path for path, value in inner.items() if holds(value, kind)]
        found = [path for path in found if not any(path.startswith(f"{outer}.") for outer in found)]
        if found:
            return [path for path in found if path in CONTAINERS or holds(inner[path], kind, ".")] or found
    return []


def _inner_mappings(root: Mapping[Any, Any]) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """All nested mappings with their paths, except those of optimizers.

    Each is returned once, because a pickle may contain one in several places, and in itself.
    """
    seen = {id(root)}
    level: list[tuple[str, Mapping[Any, Any]]] = [("", root)]
    for _ in range(_DEPTH):
        level, outer = [], level
        for path, mapping in outer:
            for key, value in mapping.items():
                if isinstance(key, str) and isinstance(value, Mapping) and id(value) not in seen:
                    seen.add(id(value))
                    if not key.lower().startswith("optim"):
                        level.append((path + key, value))
        yield from level
        level = [(f"{path}.", value) for path, value in level]


def _is_weight(tensor: Any) -> bool:
    """Whether a tensor may be a weight: not a single number (a loss, a step) or integers (a random state)."""
    return bool(tuple(tensor.shape)) and "float" in str(getattr(tensor, "dtype", ""))


def _at(mapping: Mapping[Any, Any], path: str) -> tuple[Mapping[str, Any], tuple[str, ...]] | None:
    """The mapping at a path and the names of the other entries; None if there is no such path."""
    if isinstance(value := mapping.get(path), Mapping):
        return value, tuple(str(key) for key in mapping if key != path)
    for key, value in mapping.items():
        if isinstance(key, str) and isinstance(value, Mapping) and path.startswith(f"{key}."):
            found = _at(value, path.removeprefix(f"{key}."))
            if found is not None:
                others = tuple(str(other) for other in mapping if other != key)
                return found[0], (*others, *(f"{key}.{other}" for other in found[1]))
    begin = f"{path}."
    named = {name.removeprefix(begin): value for name, value in mapping.items() if str(name).startswith(begin)}
    if not named:
        return None
    first = path.partition(".")[0]
    left = (str(name) for name in mapping if not str(name).startswith(begin))
    grouped = (name if (part := name.partition(".")[0]) == first else part for name in left)
    return named, tuple(dict.fromkeys(grouped))


def _mappings(root: Mapping[Any, Any]) -> list[str]:
    return [key for key, value in root.items() if isinstance(key, str) and isinstance(value, Mapping)]


def _first_parts(root: Mapping[Any, Any], is_tensor: Callable[[Any], bool]) -> set[str]:
    return {name.partition(".")[0] for name, value in root.items() if is_tensor(value) and "." in str(name)}


def _listed(names: list[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}" if names else "none"

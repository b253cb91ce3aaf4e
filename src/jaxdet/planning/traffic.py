"""Bytes that a compiled TPU program moves between its chip's memory (HBM) and its core, read off its text.

The compiler's own "bytes accessed" counts what is read of the core's memory (VMEM) like what is read of the chip's,
and each loop's body once. This counts the chip's memory alone, and every turn that is known of.

An instruction reads its operands and writes its results, but for what it slices (the slice is read), gathers (its
rows), updates in place (what is new is written) or scatters to (its rows are read and written). A fusion is one
instruction. Arrays are counted without the padding of their tiles.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from jaxdet.planning.hlo_text import Computations, Instruction, Shape, total

_NOTHING = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "after-all",
    "opt-barrier",
    "partition-id",
}
_VIEWS = {"bitcast", "convert", "copy", "reshape", "transpose"}  # inside of a fusion: no memory in between
_SLICES = {"dynamic-slice", "slice", "gather"}
_ALLOCATION = 'custom_call_target="AllocateBuffer"'
_UPDATES = {"dynamic-update-slice", "scatter"}


def traffic(name: str, computations: Computations) -> int:
    """Bytes of one run of a computation: every turn of a loop (one, where that is not known), of branches the most."""
    shapes = {key: {one.name: one.shapes for one in instructions} for key, instructions in computations.items()}

    def moved(one: Instruction) -> int:
        if one.kind in ("copy-start", "slice-start"):
            return _copied(one, shapes[one.computation])
        if one.kind in _NOTHING or one.kind.endswith(("-done", "-update")) or _ALLOCATION in one.rest:
            return 0
        return _of_instruction(one, shapes[one.computation], computations)

    return total(name, computations, moved)


def _in_memory(shapes: Iterable[Shape]) -> int:
    return sum(shape.bytes for shape in shapes if not shape.on_core)


def _copied(one: Instruction, shapes: dict[str, tuple[Shape, ...]]) -> int:
    """A copy behind the program's back, of all or a slice, often between the two memories."""
    copied = one.shapes[1 if one.kind == "slice-start" else 0]
    (source, *_) = shapes[one.operands[0]]
    return copied.bytes * ((not source.on_core) + (not copied.on_core))


def _of_instruction(one: Instruction, shapes: dict[str, tuple[Shape, ...]], computations: Computations) -> int:
    body = _Body(_as_body(one, shapes) if one.kind != "fusion" else computations[one.called("calls")], computations)
    total = 0
    for index, shape in enumerate(one.results):
        if not shape.on_core:
            total += body.updated(index) if body.in_place(index) else shape.bytes
    for number, name in enumerate(one.operands):
        if name in shapes:
            whole = _in_memory(shapes[name])
            total += min(whole, body.read(number, whole))
    return total


def _as_body(one: Instruction, shapes: dict[str, tuple[Shape, ...]]) -> list[Instruction]:
    """An instruction as a fusion of itself alone."""
    parameters = []
    for number, name in enumerate(one.operands):
        type_ = ", ".join(f"{shape.dtype}[{','.join(map(str, shape.sides))}]" for shape in shapes.get(name, ()))
        parameters.append(Instruction("", name, type_, "parameter", f"{number})"))
    return [*parameters, one]


class _Body:
    """The instructions of a fusion."""

    def __init__(self, instructions: list[Instruction], computations: Computations) -> None:
        self.computations = computations
        self.by_name = {one.name: one for one in instructions}
        self.parameters = {int(one.rest.split(")")[0]): one for one in instructions if one.kind == "parameter"}
        self.users: dict[str, list[Instruction]] = defaultdict(list)
        for one in instructions:
            for name in one.operands:
                self.users[name].append(one)
        root = instructions[-1]
        names = root.operands if root.kind == "tuple" else [root.name]
        self.roots = [self._behind_bitcasts(self.by_name[name]) for name in names]

    def _behind_bitcasts(self, one: Instruction) -> Instruction:
        while one.kind == "bitcast":
            one = self.by_name[one.operands[0]]
        return one

    def in_place(self, index: int) -> bool:
        """Whether a result lies in the place of a parameter that it updates."""
        if index >= len(self.roots) or self.roots[index].kind not in _UPDATES:
            return False
        return self._behind_bitcasts(self.by_name[self.roots[index].operands[0]]).kind == "parameter"

    def updated(self, index: int) -> int:
        """Bytes of what such a result changes; what is scattered is read before."""
        root = self.roots[index]
        position, times = (1, 1) if root.kind == "dynamic-update-slice" else (2, 2)
        return times * sum(shape.bytes for shape in self.by_name[root.operands[position]].shapes)

    def read(self, number: int, whole: int) -> int:
        """Bytes that are read of a parameter: ``whole``, unless it is only sliced, and updated in place."""
        if number not in self.parameters:
            return whole
        waiting, total = [(self.parameters[number].name, True)], 0
        while waiting:
            name, itself = (
                waiting.pop()
            )  # or a view of it, which is made as far as it is sliced, but whole for an update
            for user in self.users[name]:
                if user.kind in _VIEWS and self.users[user.name]:
                    waiting.append((user.name, itself and user.kind == "bitcast"))
                elif user.kind == "fusion":
                    inner = _Body(self.computations[user.called("calls")], self.computations)
                    total += sum(inner.read(at, whole) for at, operand in enumerate(user.operands) if operand == name)
                elif user.kind in _SLICES and user.operands[0] == name:
                    total += sum(shape.bytes for shape in user.shapes)
                elif not (itself and user in self.roots and user.kind in _UPDATES and user.operands[0] == name):
                    return whole
        return total

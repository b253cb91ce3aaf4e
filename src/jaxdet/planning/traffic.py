"""The bytes that a compiled TPU program moves between the chip's memory (HBM) and the core, from the program's text.

The compiler's own "bytes accessed" includes accesses to the core's memory (VMEM), and counts the body of a loop once.
This module counts only the chip's memory, and all iterations of loops whose number is known.

An instruction reads its operands and writes its results. Exceptions are slices (only the slice is read), gathers (only
the rows are read), in-place updates (only the update is written) and scatters (only the rows are read and written). A
fusion is one instruction. Arrays are counted without the padding of their tiles.
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
_VIEWS = {"bitcast", "convert", "copy", "reshape", "transpose"}  # in a fusion these do not access memory
_SLICES = {"dynamic-slice", "slice", "gather"}
_ALLOCATION = 'custom_call_target="AllocateBuffer"'
_UPDATES = {"dynamic-update-slice", "scatter"}


def traffic(name: str, computations: Computations) -> int:
    """Bytes of one run of a computation, summed as in `jaxdet.planning.hlo_text.total`."""
    shapes = {key: {one.name: one.shapes for one in instructions} for key, instructions in computations.items()}

    def moved(one: Instruction) -> int:
        if one.kind in ("copy-start", "slice-start"):
            return _copied_bytes(one, shapes[one.computation])
        if one.kind in _NOTHING or one.kind.endswith(("-done", "-update")) or _ALLOCATION in one.rest:
            return 0
        return _moved(one, shapes[one.computation], computations)

    return total(name, computations, moved)


def _in_memory(shapes: Iterable[Shape]) -> int:
    return sum(shape.bytes for shape in shapes if not shape.on_core)


def _copied_bytes(one: Instruction, shapes: dict[str, tuple[Shape, ...]]) -> int:
    """Bytes of an asynchronous copy of an array or a slice, often between the two memories."""
    copied = one.shapes[1 if one.kind == "slice-start" else 0]
    (source, *_) = shapes[one.operands[0]]
    return copied.bytes * ((not source.on_core) + (not copied.on_core))


def _moved(one: Instruction, shapes: dict[str, tuple[Shape, ...]], computations: Computations) -> int:
    body = _Body(_single_body(one, shapes) if one.kind != "fusion" else computations[one.called("calls")], computations)
    total = 0
    for index, shape in enumerate(one.results):
        if not shape.on_core:
            total += body.updated(index) if body.in_place(index) else shape.bytes
    for number, name in enumerate(one.operands):
        if name in shapes:
            whole = _in_memory(shapes[name])
            total += min(whole, body.read(number, whole))
    return total


def _single_body(one: Instruction, shapes: dict[str, tuple[Shape, ...]]) -> list[Instruction]:
    """The instruction as the body of a fusion that has only this instruction."""
    parameters = []
    for number, name in enumerate(one.operands):
        type_ = ", ".join(f"{shape.dtype}[{','.join(map(str, shape.sides))}]" for shape in shapes.get(name, ()))
        parameters.append(Instruction("", name, type_, "parameter", f"{number})"))
    return [*parameters, one]


class _Body:
    """The body of a fusion."""

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
        self.roots = [self._without_bitcasts(self.by_name[name]) for name in names]

    def _without_bitcasts(self, one: Instruction) -> Instruction:
        while one.kind == "bitcast":
            one = self.by_name[one.operands[0]]
        return one

    def in_place(self, index: int) -> bool:
        """Whether a result is an in-place update of a parameter."""
        if index >= len(self.roots) or self.roots[index].kind not in _UPDATES:
            return False
        return self._without_bitcasts(self.by_name[self.roots[index].operands[0]]).kind == "parameter"

    def updated(self, index: int) -> int:
        """Bytes of an `in_place` update. A scatter also reads the rows."""
        root = self.roots[index]
        position, times = (1, 1) if root.kind == "dynamic-update-slice" else (2, 2)
        return times * sum(shape.bytes for shape in self.by_name[root.operands[position]].shapes)

    def read(self, number: int, whole: int) -> int:
        """Bytes read from a parameter: ``whole``, unless it is only sliced or updated in place."""
        if number not in self.parameters:
            return whole
        waiting, total = [(self.parameters[number].name, True)], 0
        while waiting:
            # A view of the parameter is only computed for slices, but completely for an update.
            name, is_parameter = waiting.pop()
            for user in self.users[name]:
                if user.kind in _VIEWS and self.users[user.name]:
                    waiting.append((user.name, is_parameter and user.kind == "bitcast"))
                elif user.kind == "fusion":
                    inner = _Body(self.computations[user.called("calls")], self.computations)
                    total += sum(inner.read(at, whole) for at, operand in enumerate(user.operands) if operand == name)
                elif user.kind in _SLICES and user.operands[0] == name:
                    total += sum(shape.bytes for shape in user.shapes)
                elif not (is_parameter and user in self.roots and user.kind in _UPDATES and user.operands[0] == name):
                    return whole
        return total

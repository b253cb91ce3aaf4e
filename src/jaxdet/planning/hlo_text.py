"""Parsing the text of a compiled program (HLO): computations, instructions and the shapes of arrays."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

_BYTES = {"pred": 1, "bf16": 2, "f16": 2}  # the names of other types have the number of bits
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)")
_ARRAY = re.compile(r"\b([a-z]+\d+\w*|pred)\[([\d,]*)\](?:\{([^}]*)\})?")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|condition)=%([\w.\-]+)")
_TWO_BRANCHES = re.compile(r"\b(?:true|false)_computation=%([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_OPERAND = re.compile(r"%([\w.\-]+)")
_SCOPE = re.compile(r'op_name="([^"]*)"')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_CORE = "S(1)"  # in the layout of an array in the core's memory


@dataclass(frozen=True)
class Shape:
    """The type of an array, such as ``Shape("bf16", (8, 200, 336, 256))``.

    on_core: whether the array is in the core's memory (VMEM) instead of the chip's (HBM).
    """

    dtype: str
    sides: tuple[int, ...]
    on_core: bool = field(default=False, compare=False)

    @property
    def bytes(self) -> int:
        bits = re.search(r"\d+", self.dtype)
        size = _BYTES[self.dtype] if self.dtype in _BYTES or bits is None else int(bits[0]) / 8
        return math.ceil(size * math.prod(self.sides))


@dataclass(frozen=True)
class Instruction:
    """``%name = type kind(rest``; the rest has the operands and attributes."""

    computation: str
    name: str
    type: str
    kind: str
    rest: str

    @property
    def scope(self) -> str:
        found = _SCOPE.search(self.rest)
        return found[1] if found else ""

    @property
    def operands(self) -> list[str]:
        return _OPERAND.findall(self.rest.split(")")[0])

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shapes of the result, which may be a tuple: ``(f32[8]{0:T(128)}, bf16[3,3,64,64]{...})``."""
        return tuple(
            Shape(dtype, tuple(int(side) for side in sides.split(",") if side), _CORE in layout)
            for dtype, sides, layout in _ARRAY.findall(self.type)
        )

    @property
    def results(self) -> tuple[Shape, ...]:
        """The results of a collective, without the operands that ``-start`` forms, except all-reduce, return first."""
        if self.kind.endswith("-start") and not self.kind.startswith("all-reduce"):
            return self.shapes[len(self.operands) : 2 * len(self.operands)]
        return self.shapes

    @property
    def cycles(self) -> int:
        """The compiler's estimate; 0 if it has none."""
        found = _CYCLES.search(self.rest)
        return int(found[1]) if found else 0

    @property
    def branches(self) -> list[str]:
        """The names of a conditional's computations."""
        several = _BRANCHES.search(self.rest)
        return _OPERAND.findall(several[1]) if several else _TWO_BRANCHES.findall(self.rest)

    @property
    def all_called(self) -> set[str]:
        """The names of all computations that the instruction may call."""
        return set(_CALLED.findall(self.rest)) | set(self.branches)

    def called(self, attribute: str) -> str:
        """The name of the computation in an attribute: ``body``, ``calls`` or ``to_apply``."""
        found = re.search(rf"\b{attribute}=%([\w.\-]+)", self.rest)
        assert found is not None, f"{self.kind} without {attribute}"
        return found[1]


Computations = Mapping[str, list[Instruction]]


def read_computations(text: str) -> tuple[str, Computations]:
    """The name of a program's entry computation, and the instructions of each computation by name."""
    computations: dict[str, list[Instruction]] = {}
    for one in _instructions(text):
        computations.setdefault(one.computation, []).append(one)
    return next(reversed(computations)), computations  # the entry is printed last


def trips(loop: Instruction, computations: Computations) -> int | None:
    """The iterations of a loop, by the compiler or by a condition "counter < constant"; None if they are unknown."""
    known = _TRIPS.search(loop.rest)
    if known:
        return int(known[1])
    condition = computations[loop.called("condition")]
    constants = {one.name: one.rest.split(")")[0] for one in condition if one.kind == "constant"}
    last = condition[-1]
    if last.kind != "compare" or "direction=LT" not in last.rest:
        return None
    limits = [constants[name] for name in last.operands if name in constants]
    return int(limits[0]) if len(limits) == 1 and limits[0].isdigit() else None


def total(name: str, computations: Computations, cost: Callable[[Instruction], int]) -> int:
    """The sum of a cost over one run of a computation.

    It counts all iterations of a loop (one if their number is unknown), and the costliest branch of a conditional.
    """
    result = 0
    for one in computations[name]:
        if one.kind == "while":
            result += (trips(one, computations) or 1) * total(one.called("body"), computations, cost)
        elif one.kind == "conditional":
            result += max(total(branch, computations, cost) for branch in one.branches)
        elif one.kind == "call":
            result += total(one.called("to_apply"), computations, cost)
        else:
            result += cost(one)
    return result


def _instructions(text: str) -> Iterator[Instruction]:
    computation = ""
    for line in text.splitlines():
        opening = _COMPUTATION.match(line)
        if opening:
            computation = opening[1]
            continue
        found = _INSTRUCTION.match(line)
        if found:
            yield Instruction(computation, *found.groups())

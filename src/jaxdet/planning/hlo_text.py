"""The text of a compiled program (HLO), line by line: computations, their instructions, the shapes of arrays."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

_BYTES = {"pred": 1, "bf16": 2, "f16": 2}  # of others the digits say how many bits
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
_CORE = "S(1)"  # in a layout: the array lies in the core's own memory


@dataclass(frozen=True)
class Shape:
    """Of an array: ``Shape("bf16", (8, 200, 336, 256))``.

    on_core: whether it lies in the core's own memory (VMEM), and not in the chip's (HBM).
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
    """``%name = type kind(rest``, where the rest is operands and attributes."""

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
        """Of the result, which may be a tuple: ``(f32[8]{0:T(128)}, bf16[3,3,64,64]{...})``."""
        return tuple(
            Shape(dtype, tuple(int(side) for side in sides.split(",") if side), _CORE in layout)
            for dtype, sides, layout in _ARRAY.findall(self.type)
        )

    @property
    def results(self) -> tuple[Shape, ...]:
        """What a collective gives: one that is only started gives its operands back first, but for an all-reduce."""
        if self.kind.endswith("-start") and not self.kind.startswith("all-reduce"):
            return self.shapes[len(self.operands) : 2 * len(self.operands)]
        return self.shapes

    @property
    def cycles(self) -> int:
        """The compiler's estimate; 0 where it has none."""
        expected = _CYCLES.search(self.rest)
        return int(expected[1]) if expected else 0

    @property
    def branches(self) -> list[str]:
        """The computations of a conditional."""
        several = _BRANCHES.search(self.rest)
        return _OPERAND.findall(several[1]) if several else _TWO_BRANCHES.findall(self.rest)

    @property
    def all_called(self) -> set[str]:
        """Every computation that it may run."""
        return set(_CALLED.findall(self.rest)) | set(self.branches)

    def called(self, attribute: str) -> str:
        """The computation that an attribute names: ``body``, ``calls``, ``to_apply``."""
        found = re.search(rf"\b{attribute}=%([\w.\-]+)", self.rest)
        assert found is not None, f"{self.kind} without {attribute}"
        return found[1]


Computations = Mapping[str, list[Instruction]]


def read_computations(text: str) -> tuple[str, Computations]:
    """The name of the computation that a program begins with, and all of them."""
    computations: dict[str, list[Instruction]] = {}
    for one in _instructions(text):
        computations.setdefault(one.computation, []).append(one)
    return next(reversed(computations)), computations  # the first one to run is printed last


def trips(loop: Instruction, computations: Computations) -> int | None:
    """How often a loop turns: as the compiler says, or by its condition, where that is "counter below a constant"."""
    told = _TRIPS.search(loop.rest)
    if told:
        return int(told[1])
    condition = computations[loop.called("condition")]
    constants = {one.name: one.rest.split(")")[0] for one in condition if one.kind == "constant"}
    last = condition[-1]
    if last.kind != "compare" or "direction=LT" not in last.rest:
        return None
    limits = [constants[name] for name in last.operands if name in constants]
    return int(limits[0]) if len(limits) == 1 and limits[0].isdigit() else None


def total(name: str, computations: Computations, cost: Callable[[Instruction], int]) -> int:
    """The sum of a cost over one run of a computation: every turn of a loop (one, where that is not known), of branches
    the one that costs most."""
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

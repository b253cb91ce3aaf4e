"""Reading a compiled program's text: what travels between devices, what is multiplied, what loops.

Everything is of one device: the text is the program that each of them runs. A TPU's program writes every product, dot
or convolution, as ``convolution``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_BYTES = {"pred": 1, "bf16": 2, "f16": 2}  # of others the digits say how many bits
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)")
_ARRAY = re.compile(r"\b([a-z]+\d+\w*|pred)\[([\d,]*)\]")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|condition)=%([\w.\-]+)")
_TWO_BRANCHES = re.compile(r"\b(?:true|false)_computation=%([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_OPERAND = re.compile(r"%([\w.\-]+)")
_SCOPE = re.compile(r'op_name="([^"]*)"')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "collective-permute",
    "all-to-all",
    "collective-broadcast",
)


@dataclass(frozen=True)
class Shape:
    """Of an array: ``Shape("bf16", (8, 200, 336, 256))``."""

    dtype: str
    sides: tuple[int, ...]

    @property
    def bytes(self) -> int:
        bits = re.search(r"\d+", self.dtype)
        size = _BYTES[self.dtype] if self.dtype in _BYTES or bits is None else int(bits[0]) / 8
        return math.ceil(size * math.prod(self.sides))


@dataclass(frozen=True)
class Collective:
    """Arrays that devices combine or exchange in one go."""

    kind: str  # "all-reduce", "all-gather", ...
    arrays: tuple[Shape, ...]  # its results
    scope: str  # where in the program it comes from
    in_loop: bool

    @property
    def bytes(self) -> int:
        return sum(array.bytes for array in self.arrays)


@dataclass(frozen=True)
class Product:
    """A convolution or a matrix product."""

    operands: tuple[Shape, ...]
    scope: str
    in_loop: bool


@dataclass(frozen=True)
class Copy:
    """A copy from memory to memory, which a loop should not make of what it changes in part."""

    shape: Shape
    in_loop: bool


@dataclass(frozen=True)
class Loop:
    """A ``while``; trips is None where it turns until something is so."""

    trips: int | None
    scope: str
    in_loop: bool


@dataclass(frozen=True)
class Program:
    """What stands in a program's text.

    cycles: what the compiler expects of it, which is its cost model and no measurement: each loop as often as it turns
        (once, where that is not known), of branches the longer. It has no opinion of gathers and scatters of rows.
    """

    collectives: tuple[Collective, ...]
    products: tuple[Product, ...]
    copies: tuple[Copy, ...]
    loops: tuple[Loop, ...]
    cycles: int


@dataclass(frozen=True)
class _Instruction:
    computation: str
    name: str
    type: str
    kind: str
    rest: str  # operands and attributes

    @property
    def scope(self) -> str:
        found = _SCOPE.search(self.rest)
        return found[1] if found else ""


def read_program(text: str) -> Program:
    """What stands in the text of a compiled program (``compiled.as_text()``)."""
    computations: dict[str, list[_Instruction]] = {}
    for one in _instructions(text):
        computations.setdefault(one.computation, []).append(one)
    looping = _looping(computations)
    collectives, products, copies, loops = [], [], [], []
    for name, instructions in computations.items():
        in_loop = name in looping
        types = {one.name: one.type for one in instructions}
        for one in instructions:
            kind = one.kind.removesuffix("-start")
            if kind in _COLLECTIVES:
                collectives.append(Collective(kind, _results(one), one.scope, in_loop))
            elif kind in ("convolution", "dot"):
                names = _operands(one)[:2]
                operands = tuple(shape for operand in names for shape in _shapes(types[operand]))
                products.append(Product(operands, one.scope, in_loop))
            elif one.kind == "copy":
                copies += [Copy(shape, in_loop) for shape in _shapes(one.type)]
            elif kind == "while":
                loops.append(Loop(_trips(one, computations), one.scope, in_loop))
    entry = next(reversed(computations))  # it is printed last
    return Program(tuple(collectives), tuple(products), tuple(copies), tuple(loops), _cycles(entry, computations))


def _trips(loop: _Instruction, computations: Mapping[str, list[_Instruction]]) -> int | None:
    """How often a loop turns: as the compiler says, or by its condition, where that is "counter below a constant"."""
    told = _TRIPS.search(loop.rest)
    if told:
        return int(told[1])
    condition = computations[_called(loop, "condition")]
    constants = {one.name: one.rest.split(")")[0] for one in condition if one.kind == "constant"}
    last = condition[-1]
    if last.kind != "compare" or "direction=LT" not in last.rest:
        return None
    limits = [constants[name] for name in _operands(last) if name in constants]
    return int(limits[0]) if len(limits) == 1 and limits[0].isdigit() else None


def _cycles(name: str, computations: Mapping[str, list[_Instruction]]) -> int:
    total = 0
    for one in computations[name]:
        if one.kind == "while":
            total += (_trips(one, computations) or 1) * _cycles(_called(one, "body"), computations)
        elif one.kind == "conditional":
            total += max(_cycles(branch, computations) for branch in _branches(one))
        elif one.kind == "call":
            total += _cycles(_called(one, "to_apply"), computations)
        else:
            expected = _CYCLES.search(one.rest)
            total += int(expected[1]) if expected else 0
    return total


def _instructions(text: str) -> Iterator[_Instruction]:
    computation = ""
    for line in text.splitlines():
        opening = _COMPUTATION.match(line)
        if opening:
            computation = opening[1]
            continue
        found = _INSTRUCTION.match(line)
        if found:
            yield _Instruction(computation, *found.groups())


def _looping(computations: Mapping[str, list[_Instruction]]) -> set[str]:
    """The computations that run inside of a loop, at any depth."""
    calls: dict[str, set[str]] = {}
    waiting: set[str] = set()
    for name, instructions in computations.items():
        calls[name] = set()
        for one in instructions:
            called = set(_CALLED.findall(one.rest)) | set(_branches(one))
            calls[name] |= called
            if one.kind == "while":
                waiting |= called
    found: set[str] = set()
    while waiting:
        computation = waiting.pop()
        if computation not in found:
            found.add(computation)
            waiting |= calls.get(computation, set())
    return found


def _called(one: _Instruction, attribute: str) -> str:
    found = re.search(rf"\b{attribute}=%([\w.\-]+)", one.rest)
    assert found is not None, f"{one.kind} without {attribute}"
    return found[1]


def _branches(one: _Instruction) -> list[str]:
    several = _BRANCHES.search(one.rest)
    return _OPERAND.findall(several[1]) if several else _TWO_BRANCHES.findall(one.rest)


def _operands(one: _Instruction) -> list[str]:
    return _OPERAND.findall(one.rest.split(")")[0])


def _results(one: _Instruction) -> tuple[Shape, ...]:
    """What a collective gives; one that is only started gives its operands back before its results, but all-reduce."""
    shapes = _shapes(one.type)
    if one.kind.endswith("-start") and not one.kind.startswith("all-reduce"):
        operands = len(_operands(one))
        shapes = shapes[operands : 2 * operands]
    return shapes


def _shapes(text: str) -> tuple[Shape, ...]:
    """The arrays of a type, which may be a tuple: ``(f32[8]{0:T(128)}, bf16[3,3,64,64]{...})``."""
    return tuple(
        Shape(dtype, tuple(int(side) for side in sides.split(",") if side)) for dtype, sides in _ARRAY.findall(text)
    )

"""Reading a compiled program's text: what travels between devices, what is multiplied, what loops.

Everything is of one device: the text is the program that each of them runs. A TPU's program writes every product, dot
or convolution, as ``convolution``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

_BYTES = {"pred": 1, "bf16": 2, "f16": 2}  # of others the digits say how many bits
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)")
_ARRAY = re.compile(r"\b([a-z]+\d+\w*|pred)\[([\d,]*)\]")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|condition|true_computation|false_computation)=%([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_OPERAND = re.compile(r"%([\w.\-]+)")
_SCOPE = re.compile(r'op_name="([^"]*)"')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
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
class Loop:
    """A ``while``; trips is None where the compiler does not know how often it turns."""

    trips: int | None
    scope: str
    in_loop: bool


@dataclass(frozen=True)
class Program:
    """What stands in a program's text."""

    collectives: tuple[Collective, ...]
    products: tuple[Product, ...]
    loops: tuple[Loop, ...]


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
    instructions = list(_instructions(text))
    looping = _looping(instructions)
    types = {(one.computation, one.name): one.type for one in instructions}
    collectives, products, loops = [], [], []
    for one in instructions:
        in_loop = one.computation in looping
        kind = one.kind.removesuffix("-start")
        if kind in _COLLECTIVES:
            collectives.append(Collective(kind, _results(one), one.scope, in_loop))
        elif kind in ("convolution", "dot"):
            names = _OPERAND.findall(one.rest.split(")")[0])[:2]
            operands = tuple(shape for name in names for shape in _shapes(types[one.computation, name]))
            products.append(Product(operands, one.scope, in_loop))
        elif kind == "while":
            trips = _TRIPS.search(one.rest)
            loops.append(Loop(int(trips[1]) if trips else None, one.scope, in_loop))
    return Program(tuple(collectives), tuple(products), tuple(loops))


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


def _looping(instructions: list[_Instruction]) -> set[str]:
    """The computations that run inside of a loop, at any depth."""
    calls: dict[str, set[str]] = {}
    waiting: set[str] = set()
    for one in instructions:
        called = set(_CALLED.findall(one.rest))
        for branches in _BRANCHES.findall(one.rest):
            called |= set(_OPERAND.findall(branches))
        calls.setdefault(one.computation, set()).update(called)
        if one.kind == "while":
            waiting |= called
    found: set[str] = set()
    while waiting:
        computation = waiting.pop()
        if computation not in found:
            found.add(computation)
            waiting |= calls.get(computation, set())
    return found


def _results(one: _Instruction) -> tuple[Shape, ...]:
    """What a collective gives; one that is only started gives its operands back before its results, but all-reduce."""
    shapes = _shapes(one.type)
    if one.kind.endswith("-start") and not one.kind.startswith("all-reduce"):
        operands = len(_OPERAND.findall(one.rest.split(")")[0]))
        shapes = shapes[operands : 2 * operands]
    return shapes


def _shapes(text: str) -> tuple[Shape, ...]:
    """The arrays of a type, which may be a tuple: ``(f32[8]{0:T(128)}, bf16[3,3,64,64]{...})``."""
    return tuple(
        Shape(dtype, tuple(int(side) for side in sides.split(",") if side)) for dtype, sides in _ARRAY.findall(text)
    )

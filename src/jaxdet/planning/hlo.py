"""Reading the text of a compiled program: its collectives, matrix products, copies and loops.

All figures are for one device: each device runs the same program. A TPU program writes all matrix products, dots and
convolutions, as ``convolution``.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxdet.planning.hlo_text import Computations, Shape, read_computations, total, trips
from jaxdet.planning.traffic import traffic

_COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "collective-permute",
    "all-to-all",
    "collective-broadcast",
)


@dataclass(frozen=True)
class Collective:
    """One operation that combines or exchanges arrays of several devices."""

    kind: str  # "all-reduce", "all-gather", ...
    arrays: tuple[Shape, ...]  # the results
    scope: str  # the name stack of the operation in the traced program
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
    """A copy of an array, which is slow in a loop that changes only a part of the array."""

    shape: Shape
    in_loop: bool


@dataclass(frozen=True)
class Loop:
    """A ``while`` loop. trips: the number of iterations; None if it is not known at compile time."""

    trips: int | None
    scope: str
    in_loop: bool


@dataclass(frozen=True)
class Program:
    """The contents of a compiled program.

    cycles: the estimate of the compiler's cost model, over all iterations of loops (one if their number is unknown) and
        the longest branch of conditionals. It has no estimates for gathers and scatters of rows.
    traffic: bytes between the chip's memory and its core, counted in the same way (see `jaxdet.planning.traffic`).
    """

    collectives: tuple[Collective, ...]
    products: tuple[Product, ...]
    copies: tuple[Copy, ...]
    loops: tuple[Loop, ...]
    cycles: int
    traffic: int


def read_program(text: str) -> Program:
    """Reads the text of a compiled program (``compiled.as_text()``)."""
    entry, computations = read_computations(text)
    in_loops = _called_in_loops(computations)
    collectives, products, copies, loops = [], [], [], []
    for name, instructions in computations.items():
        in_loop = name in in_loops
        shapes = {one.name: one.shapes for one in instructions}
        for one in instructions:
            kind = one.kind.removesuffix("-start")
            if kind in _COLLECTIVES:
                collectives.append(Collective(kind, one.results, one.scope, in_loop))
            elif kind in ("convolution", "dot"):
                operands = tuple(shape for operand in one.operands[:2] for shape in shapes[operand])
                products.append(Product(operands, one.scope, in_loop))
            elif one.kind == "copy":
                copies += [Copy(shape, in_loop) for shape in one.shapes]
            elif kind == "while":
                loops.append(Loop(trips(one, computations), one.scope, in_loop))
    return Program(
        tuple(collectives),
        tuple(products),
        tuple(copies),
        tuple(loops),
        cycles=total(entry, computations, lambda one: one.cycles),
        traffic=traffic(entry, computations),
    )


def _called_in_loops(computations: Computations) -> set[str]:
    """The names of the computations that are called in a loop, directly or indirectly."""
    calls: dict[str, set[str]] = {}
    waiting: set[str] = set()
    for name, instructions in computations.items():
        calls[name] = set()
        for one in instructions:
            calls[name] |= one.all_called
            if one.kind == "while":
                waiting |= one.all_called
    found: set[str] = set()
    while waiting:
        computation = waiting.pop()
        if computation not in found:
            found.add(computation)
            waiting |= calls.get(computation, set())
    return found

"""Reading a compiled program's text: what travels between devices, what is multiplied, what loops.

Everything is of one device: the text is the program that each of them runs. A TPU's program writes every product, dot
or convolution, as ``convolution``.
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
    traffic: bytes between the chip's memory and its core, counted likewise (see `jaxdet.planning.traffic`).
    """

    collectives: tuple[Collective, ...]
    products: tuple[Product, ...]
    copies: tuple[Copy, ...]
    loops: tuple[Loop, ...]
    cycles: int
    traffic: int


def read_program(text: str) -> Program:
    """What stands in the text of a compiled program (``compiled.as_text()``)."""
    entry, computations = read_computations(text)
    looping = _looping(computations)
    collectives, products, copies, loops = [], [], [], []
    for name, instructions in computations.items():
        in_loop = name in looping
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


def _looping(computations: Computations) -> set[str]:
    """The computations that run inside of a loop, at any depth."""
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

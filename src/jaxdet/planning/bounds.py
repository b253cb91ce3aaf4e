"""How fast a compiled step can be at best, and how it would scale: arithmetic on what the compiler reports.

Nothing here is measured. A step takes at least as long as its products at the chip's peak, or as its traffic at the
memory's rate; by how much longer only a chip can tell. Traffic is no strict bound: of two branches it is that of the
costlier, which may not be taken, and loops that turn until something is so are counted once.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxdet.planning.chips import Topology
from jaxdet.planning.compiler import Compiled
from jaxdet.planning.hlo import Collective, Program

HOP_SECONDS = 1e-6  # from chip to chip, whatever the size


@dataclass(frozen=True)
class Bounds:
    """Seconds of one step on one chip, each as if it were the only thing to do.

    compute: of its products; bandwidth: of its memory traffic; collectives: of what travels between chips.
    """

    compute: float
    bandwidth: float
    collectives: float

    @property
    def step(self) -> float:
        """The larger of compute and bandwidth."""
        return max(self.compute, self.bandwidth)

    @property
    def by(self) -> str:
        return "compute" if self.compute >= self.bandwidth else "bandwidth"

    @property
    def efficiency(self) -> float:
        """Share of the time that is left of a step if nothing hides the collectives: a weak-scaling efficiency."""
        return self.step / (self.step + self.collectives)


def bounds(compiled: Compiled, program: Program, macs: int, topology: Topology, *, passes: int = 1) -> Bounds:
    """The bounds of a step on one chip of a pod.

    Args:
        macs: multiply-adds of a chip, counted from the layers. The compiler's own FLOPs count each loop once.
        passes: of the matrix unit over bfloat16 numbers that one product takes, see `passes_of`.
    """
    chip = topology.chip
    flops = max(2 * macs * passes, compiled.flops)
    travelling = travelling_seconds(program.collectives, topology)
    return Bounds(flops / chip.flops, program.traffic / chip.bandwidth, travelling)


def passes_of(dtype: str, precision: str) -> int:
    """How many products of bfloat16 numbers a TPU makes of one, by the type and precision of a model."""
    return 1 if dtype == "bfloat16" else {"highest": 6, "high": 3, "default": 1}[precision]


def travelling_seconds(collectives: tuple[Collective, ...], topology: Topology) -> float:
    """Seconds of a step's collectives, one after the other."""
    return sum(seconds_of(collective.bytes, topology) for collective in collectives)


def seconds_of(size: int, topology: Topology) -> float:
    """Seconds of an all-reduce of ``size`` bytes a chip over all chips of a slice.

    As the best algorithms for a torus take it: scattered sums, then gathered, over all links of a chip at once. An axis
    that is no ring has one way instead of two. No message is faster than its hops, there and back.
    """
    chips = topology.chips
    if chips == 1:
        return 0.0
    chip = topology.chip
    ways = [0 if side == 1 else 2 if side % chip.wraps_at == 0 else 1 for side in topology.sides]
    hops = sum(side // 2 if way == 2 else side - 1 for side, way in zip(topology.sides, ways, strict=True))
    return 2 * size * (chips - 1) / chips / (chip.link * sum(ways)) + 2 * hops * HOP_SECONDS

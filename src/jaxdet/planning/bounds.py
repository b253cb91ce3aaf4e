"""Lower bounds of the time of a compiled step, from the compiler's figures and the chip's peak rates.

Nothing is measured: a step takes at least the time of its matrix products at the chip's peak rate, and of its memory
traffic at the memory's bandwidth. The traffic is an estimate and no strict bound: a conditional counts as its costliest
branch, and a loop with an unknown number of iterations as one iteration.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxdet.planning.chips import Topology
from jaxdet.planning.compiler import Compiled
from jaxdet.planning.hlo import Collective, Program

HOP_SECONDS = 1e-6  # latency between neighbouring chips


@dataclass(frozen=True)
class Bounds:
    """Seconds of one step on one chip, each without the others.

    compute: matrix products; bandwidth: memory traffic; collectives: communication between chips.
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
        """The larger bound: ``"compute"`` or ``"bandwidth"``."""
        return "compute" if self.compute >= self.bandwidth else "bandwidth"

    @property
    def efficiency(self) -> float:
        """The weak-scaling efficiency, 0..1, if communication does not overlap with computation."""
        return self.step / (self.step + self.collectives)


def bounds(compiled: Compiled, program: Program, macs: int, topology: Topology, *, passes: int = 1) -> Bounds:
    """The bounds of a step on one chip of a pod.

    Args:
        macs: multiply-accumulates per chip, counted from the layers, because the compiler counts a loop's body once.
        passes: bfloat16 passes per matrix product, see `bfloat16_passes`.
    """
    chip = topology.chip
    flops = max(2 * macs * passes, compiled.flops)
    communication = collective_seconds(program.collectives, topology)
    return Bounds(flops / chip.flops, program.traffic / chip.bandwidth, communication)


def bfloat16_passes(dtype: str, precision: str) -> int:
    """The number of bfloat16 passes that a TPU makes for one matrix product with a model's dtype and precision."""
    return 1 if dtype == "bfloat16" else {"highest": 6, "high": 3, "default": 1}[precision]


def collective_seconds(collectives: tuple[Collective, ...], topology: Topology) -> float:
    """Seconds of a step's collectives, run one after the other."""
    return sum(all_reduce_seconds(collective.bytes, topology) for collective in collectives)


def all_reduce_seconds(size: int, topology: Topology) -> float:
    """Seconds of an all-reduce of ``size`` bytes per chip over all chips of a slice.

    The model is a reduce-scatter and an all-gather that use all links of a chip at once. A ring axis has two
    directions, other axes have one. The latency is that of the hops, there and back.
    """
    chips = topology.chips
    if chips == 1:
        return 0.0
    chip = topology.chip
    directions = [0 if side == 1 else 2 if side % chip.wraps_at == 0 else 1 for side in topology.sides]
    hops = sum(side // 2 if count == 2 else side - 1 for side, count in zip(topology.sides, directions, strict=True))
    return 2 * size * (chips - 1) / chips / (chip.link * sum(directions)) + 2 * hops * HOP_SECONDS

"""Estimates of weak scaling: the same work per chip on more and more chips.

The computation and the bytes of the collectives per chip do not depend on the number of chips; the time of the
collectives follows from the links. It is assumed not to overlap with computation, so the efficiencies are lower bounds
with regard to the links. Other effects that grow with a pod, such as slow hosts or late batches, are not included.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxdet.planning.bounds import Bounds, collective_seconds
from jaxdet.planning.chips import CHIPS_PER_HOST, Chip, Topology
from jaxdet.planning.hlo import Collective

_SIDES = {
    2: ((1, 1), (2, 2), (4, 4), (8, 8), (16, 16)),
    3: ((1, 1, 1), (2, 2, 1), (2, 2, 4), (4, 4, 4), (4, 4, 8), (4, 8, 8), (8, 8, 8)),
}


@dataclass(frozen=True)
class ScalingRow:
    """The highest rates of a step on a slice.

    collectives: seconds of the collectives of a step.
    efficiency: the rate per chip relative to that of a single chip.
    images: images per second of the slice.
    images_per_host: images per second of one host.
    """

    topology: Topology
    collectives: float
    efficiency: float
    images: float
    images_per_host: float


def weak_scaling(step: Bounds, collectives: tuple[Collective, ...], batch: int, chip: Chip) -> tuple[ScalingRow, ...]:
    """Rows from 1 to 256 or 512 chips, for a step with these bounds and collectives and ``batch`` images per chip."""
    rows = []
    for sides in _SIDES[chip.axes]:
        topology = Topology(chip, sides)
        seconds = collective_seconds(collectives, topology)
        rate = batch / (step.step + seconds)
        efficiency = step.step / (step.step + seconds)
        rows.append(
            ScalingRow(topology, seconds, efficiency, rate * topology.chips, rate * min(topology.chips, CHIPS_PER_HOST))
        )
    return tuple(rows)


def scaling_text(rows: tuple[ScalingRow, ...]) -> str:
    """The rows as a text table."""
    lines = [
        f"{'slice':<12}{'chips':>6}{'collectives':>14}{'efficiency':>12}{'images/s':>12}{'per host':>12}",
    ]
    for row in rows:
        lines.append(
            f"{row.topology.name:<12}{row.topology.chips:>6}{row.collectives * 1e3:>11.2f} ms{row.efficiency:>12.1%}"
            f"{row.images:>12,.0f}{row.images_per_host:>12,.0f}"
        )
    return "\n".join(lines)

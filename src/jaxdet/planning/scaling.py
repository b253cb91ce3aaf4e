"""Weak scaling on paper: the same work a chip, ever more chips.

What a chip computes does not depend on how many there are, and neither do the bytes that it combines with the others;
the time that takes follows from the links. Nothing is assumed to hide it, so these efficiencies are lower bounds as far
as the links go; what else grows with a pod (a slow host, a late batch) is not in them.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxdet.planning.bounds import Bounds, travelling_seconds
from jaxdet.planning.chips import CHIPS_A_HOST, Chip, Topology
from jaxdet.planning.hlo import Collective

_SIDES = {
    2: ((1, 1), (2, 2), (4, 4), (8, 8), (16, 16)),
    3: ((1, 1, 1), (2, 2, 1), (2, 2, 4), (4, 4, 4), (4, 4, 8), (4, 8, 8), (8, 8, 8)),
}


@dataclass(frozen=True)
class ScalingRow:
    """A slice, and what a step takes on it at best.

    collectives: seconds of a step; efficiency: of one chip's rate that each still has.
    images, images_a_host: a second.
    """

    topology: Topology
    collectives: float
    efficiency: float
    images: float
    images_a_host: float


def weak_scaling(step: Bounds, collectives: tuple[Collective, ...], batch: int, chip: Chip) -> tuple[ScalingRow, ...]:
    """Rows from one chip to 256 or 512, for a step of ``batch`` images a chip with these bounds and collectives."""
    rows = []
    for sides in _SIDES[chip.axes]:
        topology = Topology(chip, sides)
        seconds = travelling_seconds(collectives, topology)
        rate = batch / (step.step + seconds)
        efficiency = step.step / (step.step + seconds)
        rows.append(
            ScalingRow(topology, seconds, efficiency, rate * topology.chips, rate * min(topology.chips, CHIPS_A_HOST))
        )
    return tuple(rows)


def scaling_text(rows: tuple[ScalingRow, ...]) -> str:
    """The rows as a table."""
    lines = [
        f"{'slice':<12}{'chips':>6}{'collectives':>14}{'efficiency':>12}{'images/s':>12}{'of a host':>12}",
    ]
    for row in rows:
        lines.append(
            f"{row.topology.name:<12}{row.topology.chips:>6}{row.collectives * 1e3:>11.2f} ms{row.efficiency:>12.1%}"
            f"{row.images:>12,.0f}{row.images_a_host:>12,.0f}"
        )
    return "\n".join(lines)

"""TPU versions with their figures, and the topologies of pods.

The figures are from Google's Cloud TPU documentation. The rate of a link is its achievable rate in one direction, from
"How to Scale Your Model" (Austin et al. 2025).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from jaxdet.config import nearest

GIB = 1 << 30
CHIPS_PER_HOST = 4


@dataclass(frozen=True)
class Chip:
    """One TPU chip. Rates are per second.

    hbm: bytes of memory.
    flops: peak FLOPs of bfloat16 matrix products.
    bandwidth: bytes between memory and cores.
    link: bytes over one link to a neighbour, in one direction.
    axes: number of axes of the torus; a chip has two links per axis.
    wraps_at: an axis is a ring if its side is a multiple of this.
    largest: number of chips in the largest slice.
    core: the compiler's name of the mapping from cores to devices; the two cores of a v4 or v5p chip are one device.
    """

    name: str
    hbm: float
    flops: float
    bandwidth: float
    link: float
    axes: int
    wraps_at: int
    largest: int
    core: str = "default"


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", 32 * GIB, 275e12, 1228e9, 45e9, axes=3, wraps_at=4, largest=4096, core="megacore"),
        Chip("v5e", 16 * GIB, 197e12, 819e9, 45e9, axes=2, wraps_at=16, largest=256),
        Chip("v5p", 95 * GIB, 459e12, 2765e9, 90e9, axes=3, wraps_at=4, largest=8960, core="megacore"),
        Chip("v6e", 32 * GIB, 918e12, 1640e9, 90e9, axes=2, wraps_at=16, largest=256),
    )
}


@dataclass(frozen=True)
class Topology:
    """A slice of a pod.

    sides: number of chips along each axis of the torus.
    """

    chip: Chip
    sides: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.chip.name}:{'x'.join(map(str, self.sides))}"

    @property
    def chips(self) -> int:
        return math.prod(self.sides)

    @property
    def hosts(self) -> int:
        return -(-self.chips // CHIPS_PER_HOST)

    @property
    def host_bounds(self) -> tuple[int, int, int]:
        """The number of chips of one host along each axis, which libtpu needs for slices smaller than a host."""
        return min(2, self.sides[0]), min(2, self.sides[1]), 1


def parse_topology(text: str) -> Topology:
    """Parses a TPU version and the number of chips along each axis, such as ``"v5e:16x16"`` or ``"v5p:8x8x8"``.

    Raises:
        ValueError: the version is unknown, has another number of axes, or has no slice of this size.
    """
    version, _, shape = text.partition(":")
    if version not in CHIPS:
        raise ValueError(f"there is no TPU {version!r}; known: {', '.join(CHIPS)}{nearest(version, CHIPS)}")
    chip = CHIPS[version]
    example = "16x16" if chip.axes == 2 else "4x4x4"
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", shape) or shape.count("x") != chip.axes - 1:
        raise ValueError(f"{text!r} is not a topology: a {version} has {chip.axes} axes, such as {version}:{example}")
    topology = Topology(chip, tuple(int(side) for side in shape.split("x")))
    if topology.chips > chip.largest:
        raise ValueError(f"{text} has {topology.chips} chips, but the largest {version} slice has {chip.largest}")
    odd = [side for side in topology.sides[:2] if side > 1 and side % 2]
    if odd:
        raise ValueError(f"{text}: a host has 2x2 chips, so the first two sides must be even (or 1), not {odd[0]}")
    return topology

"""The TPUs there are, and what a pod of them is called.

The numbers are Google's, from the pages of its Cloud TPU documentation on each version. A link's rate is what is
reached one way, from "How to Scale Your Model" (Austin et al. 2025).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from jaxdet.config import nearest

GIB = 1 << 30
CHIPS_A_HOST = 4


@dataclass(frozen=True)
class Chip:
    """One TPU chip; rates are a second.

    hbm: bytes of memory; flops: of bfloat16 products; bandwidth: bytes between memory and cores.
    link: bytes over one link to a neighbour, one way; axes: of the torus, with two links each.
    wraps_at: an axis whose side is a multiple of this is a ring.
    largest: chips of the largest slice.
    core: the compiler's name for how cores become devices: those of a v4 or v5p act as one.
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

    sides: chips along each axis of the torus.
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
        return -(-self.chips // CHIPS_A_HOST)

    @property
    def chips_of_a_host(self) -> tuple[int, int, int]:
        """How many along each axis one host holds, as libtpu wants to be told of slices smaller than a host."""
        return min(2, self.sides[0]), min(2, self.sides[1]), 1


def parse_topology(text: str) -> Topology:
    """``"v5e:16x16"``, ``"v5p:8x8x8"``: a version and the chips along each axis of its torus.

    Raises:
        ValueError: no such version, the sides are of another torus, or it is larger than any.
    """
    version, _, shape = text.partition(":")
    if version not in CHIPS:
        raise ValueError(f"there is no TPU {version!r}; known: {', '.join(CHIPS)}{nearest(version, CHIPS)}")
    chip = CHIPS[version]
    like = "16x16" if chip.axes == 2 else "4x4x4"
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", shape) or shape.count("x") != chip.axes - 1:
        raise ValueError(f"{text!r} is no topology: a {version} has {chip.axes} axes, such as {version}:{like}")
    topology = Topology(chip, tuple(int(side) for side in shape.split("x")))
    if topology.chips > chip.largest:
        raise ValueError(f"{text} has {topology.chips} chips, and the largest slice of {version}s {chip.largest}")
    odd = [side for side in topology.sides[:2] if side > 1 and side % 2]
    if odd:
        raise ValueError(f"{text}: a host holds 2x2 chips, so the first two sides are even, not {odd[0]}")
    return topology
